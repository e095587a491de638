"""The paper's experiments: the runs, the numbers drawn from them, and the page that reports them."""
