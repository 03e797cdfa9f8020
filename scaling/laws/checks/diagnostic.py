"""One warning about a fit."""
from __future__ import annotations


class Diagnostic(str):
    """One warning: a sentence, with a code and a subject for programs.

    code: the kind of fault, words joined by hyphens. about: the parameters, inputs or columns that it concerns.
    """
    code: str
    about: tuple[str, ...]

    def __new__(cls, message: str, code: str, about=()):
        made = super().__new__(cls, message)
        made.code, made.about = code, (about,) if isinstance(about, str) else tuple(about)
        return made

    def __reduce__(self):  # so that copies and pickles keep code and about
        return type(self), (str(self), self.code, self.about)

    def to_json(self) -> dict:
        return {"code": self.code, "about": list(self.about), "message": str(self)}

    @classmethod
    def from_json(cls, content: dict) -> Diagnostic:
        return cls(content["message"], content["code"], content["about"])
