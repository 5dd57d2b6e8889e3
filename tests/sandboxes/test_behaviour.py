"""What every provider promises of a sandbox and its commands."""

import asyncio
import os
import tracemalloc
from pathlib import Path

import pytest

from dispatch.errors import Invalid, SandboxDied, Unavailable
from tests.sandboxes.commands import Shown, processes_with, run, wait_until
from workers.sandboxes import Place, Provider, Sandbox


@pytest.mark.parametrize("code", [0, 1, 7, 127, 255])
async def test_the_exit_code_is_reported(sandbox: Sandbox, code: int) -> None:
    result = await run(sandbox, f"exit {code}")

    assert (result.exit_code, result.signal, result.timed_out) == (code, None, False)


@pytest.mark.parametrize(("name", "code"), [("KILL", 137), ("TERM", 143), ("SEGV", 139)])
async def test_a_death_by_signal_is_named(sandbox: Sandbox, name: str, code: int) -> None:
    result = await run(sandbox, f"kill -{name} $$; sleep 5")

    assert (result.exit_code, result.signal, result.timed_out) == (code, f"SIG{name}", False)


async def test_both_outputs_come_in_the_order_they_were_written(sandbox: Sandbox) -> None:
    result = await run(sandbox, "echo one; echo two >&2; echo three")

    assert result.output == "one\ntwo\nthree\n"
    assert (result.total_bytes, result.truncated) == (14, False)


async def test_output_is_shown_while_the_command_runs(
    sandbox: Sandbox,
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

    await run(sandbox, "touch go")
    result = await running

    assert shown.text == result.output == "first\nlast\n"


async def test_a_character_split_between_writes_comes_whole(
    sandbox: Sandbox,
) -> None:
    shown = Shown()
    waiting = "while [ ! -e go ]; do sleep 0.02; done"
    running = asyncio.ensure_future(
        run(sandbox, rf"printf 'a\342\202'; {waiting}; printf '\254b'", shown=shown)
    )
    await wait_until(lambda: shown.text == "a")

    await run(sandbox, "touch go")
    result = await running

    assert shown.text == result.output == "a€b"


async def test_what_is_not_utf8_is_replaced(sandbox: Sandbox) -> None:
    shown = Shown()

    result = await run(sandbox, r"printf 'a\377b\000c\342\202'", shown=shown)

    assert shown.text == result.output == "a\ufffdb\ufffdc\ufffd"
    assert result.total_bytes == 7


async def test_the_wall_clock_kills_the_command_and_its_children(sandbox: Sandbox) -> None:
    marker = f"31.{os.getpid()}1"

    result = await run(sandbox, f"echo begun; sleep {marker} & sleep {marker}", wall_seconds=2)

    assert (result.exit_code, result.signal, result.timed_out) == (None, "SIGKILL", True)
    assert result.output == "begun\n"
    assert 2 <= result.duration_seconds < float(marker)
    await wait_until(lambda: not processes_with(marker))


async def test_a_command_that_closed_its_output_still_meets_the_wall_clock(
    sandbox: Sandbox,
) -> None:
    result = await run(sandbox, "exec >&- 2>&-; sleep 30", wall_seconds=0.5)

    assert result.timed_out


async def test_a_command_cannot_ignore_its_end(sandbox: Sandbox) -> None:
    result = await run(
        sandbox, "trap '' TERM INT HUP; while :; do sleep 0.1; done", wall_seconds=0.5
    )

    assert result.timed_out


async def test_a_cancellation_leaves_no_process(sandbox: Sandbox) -> None:
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
    sandbox: Sandbox,
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


async def test_a_background_process_does_not_outlive_its_command(sandbox: Sandbox) -> None:
    marker = f"34.{os.getpid()}4"

    result = await run(sandbox, f"sleep {marker} & echo done")

    assert (result.exit_code, result.output) == (0, "done\n")
    assert not result.timed_out
    await wait_until(lambda: not processes_with(marker))


async def test_a_failing_listener_ends_the_command(sandbox: Sandbox) -> None:
    marker = f"35.{os.getpid()}5"

    async def refuse(_: str) -> None:
        raise Unavailable("Redis")

    with pytest.raises(Unavailable):
        await sandbox.run_command(
            f"echo x; sleep {marker}", wall_seconds=20, max_output_bytes=100, on_output=refuse
        )

    await wait_until(lambda: not processes_with(marker))


async def test_the_wall_clock_lets_a_listener_finish(sandbox: Sandbox) -> None:
    finished: list[str] = []

    async def slow(piece: str) -> None:
        await asyncio.sleep(0.6)
        finished.append(piece)

    result = await sandbox.run_command(
        "echo x; sleep 60", wall_seconds=2, max_output_bytes=100, on_output=slow
    )

    assert result.timed_out
    assert finished == ["x\n"]


async def test_fifty_megabytes_are_drained_in_bounded_memory(sandbox: Sandbox) -> None:
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


async def test_a_fast_writer_does_not_hold_up_the_loop(sandbox: Sandbox) -> None:
    ticks = 0
    running = asyncio.ensure_future(run(sandbox, "yes", wall_seconds=0.5))
    while not running.done():
        await asyncio.sleep(0.005)
        ticks += 1

    assert (await running).timed_out
    assert ticks > 5


async def test_the_kept_tail_never_begins_inside_a_character(sandbox: Sandbox) -> None:
    result = await run(sandbox, "printf '€€€€'", max_output_bytes=7)

    assert result.output == "€€"
    assert result.truncated


async def test_a_command_reads_nothing_from_the_worker(sandbox: Sandbox) -> None:
    result = await run(sandbox, "cat; echo read")

    assert result.output == "read\n"


async def test_a_command_has_none_of_the_workers_environment(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTED_SECRET", "planted-4711")

    assert "planted" not in (await run(sandbox, "env")).output


async def test_the_workspace_is_home_and_lasting(sandbox: Sandbox) -> None:
    first = await run(sandbox, 'echo kept > "$HOME/note"; [ "$PWD" -ef "$HOME" ] && echo home')
    second = await run(sandbox, "cat note")

    assert (first.output, second.output) == ("home\n", "kept\n")


async def test_many_commands_at_once_keep_their_outputs_apart(sandbox: Sandbox) -> None:
    results = await asyncio.gather(*(run(sandbox, f"echo {n}; exit {n}") for n in range(8)))

    assert [(r.exit_code, r.output) for r in results] == [(n, f"{n}\n") for n in range(8)]


@pytest.mark.parametrize("command", ["echo \0", "echo \ud800", "#" * 200_000])
async def test_a_command_no_shell_could_take_is_refused(sandbox: Sandbox, command: str) -> None:
    with pytest.raises(Invalid) as refusal:
        await run(sandbox, command)

    assert refusal.value.next_step


async def test_the_longest_command_runs(sandbox: Sandbox) -> None:
    result = await run(sandbox, "echo ok #" + "x" * (128 * 1024 - 1 - 9))

    assert result.output == "ok\n"


async def test_a_sandbox_is_found_again_until_it_is_released(
    provider: Provider, place: Place
) -> None:
    assert await provider.find(place) is None
    made = await provider.open(place)
    await run(made, "echo kept > note")
    found = await provider.find(place)
    assert found is not None
    assert (await run(found, "cat note")).output == "kept\n"
    assert place.id in await provider.list()

    assert await provider.release(place.id)
    assert await provider.release(place.id)

    assert await provider.find(place) is None
    assert place.id not in await provider.list()


async def test_opened_twice_it_is_one(provider: Provider, place: Place) -> None:
    first, second = await provider.open(place), await provider.open(place)
    await run(first, "echo kept > note")
    assert (await run(second, "cat note")).output == "kept\n"
    await provider.release(place.id)


async def test_a_sandbox_that_is_gone_says_so(provider: Provider, place: Place) -> None:
    made = await provider.open(place)
    assert await made.alive()
    await provider.release(place.id)
    assert not await made.alive()
    with pytest.raises(SandboxDied):
        await run(made, "true")


async def test_every_byte_is_handed_over(sandbox: Sandbox) -> None:
    taken = bytearray()

    async def take(data: bytes) -> None:
        taken.extend(data)

    result = await sandbox.run_command(
        "seq 1 60000",
        wall_seconds=20,
        max_output_bytes=100,
        on_output=Shown(),
        on_bytes=take,
    )

    assert len(taken) == result.total_bytes
    assert taken.startswith(b"1\n2\n")
    assert taken.endswith(b"\n60000\n")


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_no_file_descriptor_is_left_behind(provider: Provider, sandbox: Sandbox) -> None:
    await run(sandbox, "true")
    before = open_files()

    for _ in range(3):
        await run(sandbox, "echo x")

    assert open_files() == before
