"""safepy: high availability of any application on two Linux servers."""

__version__ = "0.1.0"
