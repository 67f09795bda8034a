"""stub"""


def summary(d):
    return ""


def page(d):
    return ""
