"""refusalctl: does the refusal direction of a chat model carry over from one language to another?"""

__version__ = "0.1.0"
