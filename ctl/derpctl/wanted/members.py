"""What an operator says of a node on the command line, as the registry has it. Pure."""

from collections.abc import Mapping

from pydantic import ValidationError

from derpctl.config import admin_url
from derpctl.errors import CtlError
from derpctl.exits import Exit
from derpmesh.membership.model import Member


def member_of(
    name: str, said: Mapping[str, object], command: str = "node add"
) -> Member:
    """Make a member of its name and of what else is said; None is not said.

    Args:
        name: Of the node.
        said: The rest, by field.
        command: Whose help to look at.

    Raises:
        CtlError: Something cannot be used; says which option.
    """
    hint = f"see derpctl {command} --help"
    fields = {key: value for key, value in said.items() if value is not None}
    if "admin" in fields:
        try:
            fields["admin"] = admin_url(str(fields["admin"]))
        except ValueError as exc:
            value = f"--admin = {fields['admin']!r:.80}"
            raise CtlError(value, str(exc), hint, Exit.USAGE) from None
    try:
        return Member.model_validate({"name": name, **fields})
    except ValidationError as exc:
        error = exc.errors()[0]
        field = str(error["loc"][0])
        option = "NAME" if field == "name" else f"--{field.replace('_', '-')}"
        if error["type"] == "missing":
            reason, hint = "missing", "derpd --print-node on the node says what to give"
            raise CtlError(option, reason, hint, Exit.USAGE) from None
        reason = error["msg"].removeprefix("Value error, ")
        value = f"{option} = {error['input']!r:.80}"
        raise CtlError(value, reason, hint, Exit.USAGE) from None
