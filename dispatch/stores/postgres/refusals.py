"""What Postgres's refusals mean in our words. Pure: takes an exception, returns another.

    no answer, no connection, timeouts, deadlocks  →  Unavailable (nothing was half done)
    NUL, lone surrogates, a broken limit           →  Invalid
    a right that is missing                        →  Forbidden
    a constraint that guards a rule of ours        →  Conflict or NotFound, by its name

Anything else is a mistake of ours and stays what it is.
"""

from typing import Final

import psycopg
from sqlalchemy import exc

from dispatch import errors

_NOT_MIGRATED: Final = "Run `arbe db upgrade`."


def meaning_of(error: BaseException) -> errors.ArbeError | None:
    """Translate what may come out of any statement, or return None for a mistake of ours."""
    match error:
        case exc.TimeoutError():
            return errors.Unavailable("Postgres", cause="all connections are busy")
        case exc.DisconnectionError():
            return errors.Unavailable("Postgres", cause="the connection was lost")
        case exc.DBAPIError():
            silent = isinstance(error, exc.OperationalError | exc.InterfaceError)
            lost = silent or error.connection_invalidated
            return _no_answer(error) if lost else _refused(error.orig)
        case exc.StatementError(orig=UnicodeEncodeError()) | UnicodeEncodeError():
            return errors.Invalid("A text holds a lone surrogate, which UTF-8 cannot carry.")
        case _:
            return None


def broken_rule(error: exc.IntegrityError) -> Exception:
    """Translate a violated constraint by its name; one without meaning stays the error."""
    match constraint_of(error):
        case "agents_handle_key":
            return errors.Conflict(
                "handle_taken", "Another agent of this house has this handle."
            )
        case "threads_key_key":
            return errors.Conflict("key_taken", "A thread of this house has this key.")
        case "houses_primary_thread_fkey":
            return errors.Conflict(
                "primary_thread", "A house's primary thread lives as long as the house."
            )
        case "threads_parent_agent_fkey":
            return errors.Conflict(
                "agent_in_use",
                "Direct threads with this agent are still there.",
                next_step="Delete them first, or set the agent's trigger mode to never.",
            )
        case "threads_environment_fkey":
            return errors.Conflict(
                "environment_in_use",
                "Threads are bound to this environment.",
                next_step="Delete them first.",
            )
        case _:
            return error


def missing(error: exc.IntegrityError, **targets: tuple[str, object]) -> Exception:
    """Translate a broken reference into NotFound of what it pointed to.

    Args: targets: for each foreign key's name, the kind and the id that was given. A row of
    another house is as missing as none.
    """
    target = targets.get(constraint_of(error) or "")
    if target is None:
        return broken_rule(error)
    kind, ref = target
    return errors.NotFound(kind, str(ref))


def constraint_of(error: exc.DBAPIError) -> str | None:
    """Name the constraint that was violated, if any."""
    return error.orig.diag.constraint_name if isinstance(error.orig, psycopg.Error) else None


def first_line(error: BaseException) -> str:
    """Return the server's own sentence, without the statement and its values."""
    cause = error.orig if isinstance(error, exc.DBAPIError) else error
    return str(cause).partition("\n")[0].rstrip(".")


def _no_answer(error: exc.DBAPIError) -> errors.ArbeError:
    said = str(error.orig)
    if 'role "arbe_' in said:  # the connection's own role: a database that was never migrated
        return errors.Unavailable("Postgres", cause="no schema yet", next_step=_NOT_MIGRATED)
    return errors.Unavailable("Postgres", cause=type(error.orig).__name__)


def _refused(cause: BaseException | None) -> errors.ArbeError | None:
    match cause:
        case psycopg.errors.UndefinedTable():
            return errors.Unavailable(
                "Postgres", cause="no schema yet", next_step=_NOT_MIGRATED
            )
        case psycopg.errors.InsufficientPrivilege():
            return errors.Forbidden("This member may not do that.")
        case psycopg.errors.CheckViolation():
            return errors.Invalid(
                "A value is beyond its limit.", constraint=cause.diag.constraint_name
            )
        case psycopg.DataError():
            return errors.Invalid(f"A value cannot be stored: {first_line(cause)}.")
        case _:
            return None
