import asyncio
import os
import stat
import tracemalloc
from pathlib import Path

import pytest

from dispatch.errors import Invalid, Unavailable
from tests.sandboxes.commands import Shown, processes_with, run, wait_until
from workers.sandboxes.launches import Bare, Isolation
from workers.sandboxes.local import LocalSandbox


@pytest.mark.parametrize("code", [0, 1, 7, 127, 255])
async def test_the_exit_code_is_reported(sandbox: LocalSandbox, code: int) -> None:
    result = await run(sandbox, f"exit {code}")

    assert (result.exit_code, result.signal, result.timed_out) == (code, None, False)


@pytest.mark.parametrize(("name", "code"), [("KILL", 137), ("TERM", 143), ("SEGV", 139)])
async def test_a_death_by_signal_is_named(sandbox: LocalSandbox, name: str, code: int) -> None:
    result = await run(sandbox, f"kill -{name} $$; sleep 5")

    assert (result.exit_code, result.signal, result.timed_out) == (code, f"SIG{name}", False)


async def test_both_outputs_come_in_the_order_they_were_written(sandbox: LocalSandbox) -> None:
    result = await run(sandbox, "echo one; echo two >&2; echo three")

    assert result.output == "one\ntwo\nthree\n"
    assert (result.total_bytes, result.truncated) == (14, False)


async def test_output_is_shown_while_the_command_runs(
    sandbox: LocalSandbox, workspace: Path
) -> None:
    shown = Shown()
    running = asyncio.ensure_future(
        run(
            sandbox,
            "echo first; while [ ! -e go ]; do sleep 0.02; done; echo last",
            shown=shown,
        )
    )
    await wait_until(lambda: shown.text == "first\n")
    assert not running.done()

    (workspace / "go").touch()
    result = await running

    assert shown.text == result.output == "first\nlast\n"


async def test_a_character_split_between_writes_comes_whole(
    sandbox: LocalSandbox, workspace: Path
) -> None:
    shown = Shown()
    waiting = "while [ ! -e go ]; do sleep 0.02; done"
    running = asyncio.ensure_future(
        run(sandbox, rf"printf 'a\342\202'; {waiting}; printf '\254b'", shown=shown)
    )
    await wait_until(lambda: shown.text == "a")

    (workspace / "go").touch()
    result = await running

    assert shown.text == result.output == "a€b"


async def test_what_is_not_utf8_is_replaced(sandbox: LocalSandbox) -> None:
    shown = Shown()

    result = await run(sandbox, r"printf 'a\377b\000c\342\202'", shown=shown)

    assert shown.text == result.output == "a\ufffdb\ufffdc\ufffd"
    assert result.total_bytes == 7


async def test_the_wall_clock_kills_the_command_and_its_children(sandbox: LocalSandbox) -> None:
    marker = f"31.{os.getpid()}1"

    result = await run(
        sandbox, f"echo begun; sleep {marker} & sleep {marker}", wall_seconds=0.5
    )

    assert (result.exit_code, result.signal, result.timed_out) == (None, "SIGKILL", True)
    assert result.output == "begun\n"
    assert 0.5 <= result.duration_seconds < 5
    await wait_until(lambda: not processes_with(marker))


async def test_a_command_that_closed_its_output_still_meets_the_wall_clock(
    sandbox: LocalSandbox,
) -> None:
    result = await run(sandbox, "exec >&- 2>&-; sleep 30", wall_seconds=0.5)

    assert result.timed_out


async def test_a_command_cannot_ignore_its_end(sandbox: LocalSandbox) -> None:
    result = await run(
        sandbox, "trap '' TERM INT HUP; while :; do sleep 0.1; done", wall_seconds=0.5
    )

    assert result.timed_out


async def test_a_cancellation_leaves_no_process(sandbox: LocalSandbox) -> None:
    marker = f"32.{os.getpid()}2"
    shown = Shown()
    running = asyncio.ensure_future(
        run(sandbox, f"sleep {marker} & echo begun; sleep {marker}", shown=shown)
    )
    await wait_until(lambda: shown.text == "begun\n")
    assert processes_with(marker)

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    await wait_until(lambda: not processes_with(marker))


async def test_a_cancellation_at_any_moment_of_the_start_leaves_no_process(
    sandbox: LocalSandbox,
) -> None:
    marker = f"33.{os.getpid()}3"
    for step in range(12):
        running = asyncio.ensure_future(run(sandbox, f"sleep {marker}"))
        for _ in range(step):
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    await wait_until(lambda: not processes_with(marker))


async def test_a_background_process_does_not_outlive_its_command(sandbox: LocalSandbox) -> None:
    marker = f"34.{os.getpid()}4"

    result = await run(sandbox, f"sleep {marker} & echo done")

    assert (result.exit_code, result.output) == (0, "done\n")
    assert result.duration_seconds < 5
    await wait_until(lambda: not processes_with(marker))


async def test_a_failing_listener_ends_the_command(sandbox: LocalSandbox) -> None:
    marker = f"35.{os.getpid()}5"

    async def refuse(_: str) -> None:
        raise Unavailable("Redis")

    with pytest.raises(Unavailable):
        await sandbox.run_command(
            f"echo x; sleep {marker}", wall_seconds=20, max_output_bytes=100, on_output=refuse
        )

    await wait_until(lambda: not processes_with(marker))


async def test_the_wall_clock_lets_a_listener_finish(sandbox: LocalSandbox) -> None:
    finished: list[str] = []

    async def slow(piece: str) -> None:
        await asyncio.sleep(0.6)
        finished.append(piece)

    result = await sandbox.run_command(
        "echo x; sleep 20", wall_seconds=0.2, max_output_bytes=100, on_output=slow
    )

    assert result.timed_out
    assert finished == ["x\n"]


async def test_fifty_megabytes_are_drained_in_bounded_memory(sandbox: LocalSandbox) -> None:
    shown = Shown()
    tracemalloc.start()

    result = await run(
        sandbox,
        "head -c 50000000 /dev/zero | tr '\\0' x; echo; echo the end",
        shown=shown,
        max_output_bytes=10_000,
    )

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert result.total_bytes == 50_000_009
    assert result.truncated
    assert len(result.output) == 10_000
    assert result.output.endswith("x\nthe end\n")
    assert shown.text == "x" * 10_000
    assert peak < 4_000_000


async def test_a_fast_writer_does_not_hold_up_the_loop(sandbox: LocalSandbox) -> None:
    ticks = 0
    running = asyncio.ensure_future(run(sandbox, "yes", wall_seconds=0.5))
    while not running.done():
        await asyncio.sleep(0.005)
        ticks += 1

    assert (await running).timed_out
    assert ticks > 25


async def test_the_kept_tail_never_begins_inside_a_character(sandbox: LocalSandbox) -> None:
    result = await run(sandbox, "printf '€€€€'", max_output_bytes=7)

    assert result.output == "€€"
    assert result.truncated


async def test_a_command_reads_nothing_from_the_worker(sandbox: LocalSandbox) -> None:
    result = await run(sandbox, "cat; echo read")

    assert result.output == "read\n"


async def test_the_environment_of_a_command_is_its_own(
    sandbox: LocalSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTED_SECRET", "planted-4711")

    result = await run(sandbox, "env")

    names = {line.partition("=")[0] for line in result.output.splitlines()}
    assert names <= {"PATH", "HOME", "LANG", "PWD", "OLDPWD", "SHLVL", "_"}
    assert "planted" not in result.output


async def test_the_workspace_is_private_home_and_lasting(
    sandbox: LocalSandbox, workspace: Path
) -> None:
    first = await run(sandbox, 'echo kept > "$HOME/note"; [ "$PWD" -ef "$HOME" ] && echo home')
    second = await run(sandbox, "cat note")

    assert (first.output, second.output) == ("home\n", "kept\n")
    assert (workspace / "note").read_text() == "kept\n"
    assert mode_of(workspace) == 0o700


async def test_limits_hold_inside(sandbox: LocalSandbox) -> None:
    result = await run(sandbox, "ulimit -c; ulimit -n; ulimit -f; ulimit -t")

    core, files, blocks, cpu_seconds = result.output.split()
    assert (core, files, blocks) == ("0", "1024", str(1024**3 // 512))
    assert int(cpu_seconds) > 20


async def test_many_commands_at_once_keep_their_outputs_apart(sandbox: LocalSandbox) -> None:
    results = await asyncio.gather(*(run(sandbox, f"echo {n}; exit {n}") for n in range(8)))

    assert [(r.exit_code, r.output) for r in results] == [(n, f"{n}\n") for n in range(8)]


@pytest.mark.parametrize("command", ["echo \0", "echo \ud800", "#" * 200_000])
async def test_a_command_no_shell_could_take_is_refused(
    sandbox: LocalSandbox, command: str
) -> None:
    with pytest.raises(Invalid) as refusal:
        await run(sandbox, command)

    assert refusal.value.next_step


async def test_the_longest_command_runs(sandbox: LocalSandbox) -> None:
    result = await run(sandbox, "echo ok #" + "x" * (128 * 1024 - 1 - 9))

    assert result.output == "ok\n"


async def test_a_workspace_that_cannot_be_made_is_unavailable(
    tmp_path: Path, apart: Isolation
) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(Unavailable):
        await run(LocalSandbox(tmp_path / "file" / "thread", apart), "true")


def mode_of(folder: Path) -> int:
    return stat.S_IMODE(folder.stat().st_mode)


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_no_file_descriptor_is_left_behind(sandbox: LocalSandbox) -> None:
    await run(sandbox, "true")
    before = open_files()

    for _ in range(3):
        await run(sandbox, "echo x")
        with pytest.raises(Unavailable):
            await run(LocalSandbox(Path("/proc/none/thread"), Bare()), "true")

    assert open_files() == before
