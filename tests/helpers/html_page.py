"""HTML pages, read strictly."""

from html.parser import HTMLParser

VOID = {"meta", "img", "source", "link", "br", "hr", "wbr"}


class Page(HTMLParser):
    """Reads a page, and fails where an element is closed that is not open."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.text = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def attributes(self, name):
        return [attributes[name] for _, attributes in self.elements if name in attributes]
