"""The paper's experiments: what is run, the numbers drawn from it, and the page that reports them."""
