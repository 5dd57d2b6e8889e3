"""What led to a violation, as text: the plan, the steps, the streams, the rows."""

from dispatch.streams import keys
from tests.crashes.life import Plan
from tests.crashes.play import Play
from tests.streams.scene import Read


async def tell(play: Play, plan: Plan) -> list[str]:
    """Return the play's history, read from the servers as they stand."""
    lines = ["steps:", *_steps(plan)]
    wire, admin = play.world.doors.wire, play.world.admin
    for thread_id in play.threads:
        found = await admin.execute(
            "select status, usage, stream_id from threads where id = %s", [thread_id]
        )
        lines.append(f"thread {thread_id}, row {await found.fetchone()}:")
        for each in await play.world.record.entries.page(thread_id, limit=9999):
            entry = Read.of(each)
            lines.append(
                f"  {entry.id} {entry.seq or '-'} {entry.writer or ''} {entry.payload}"
            )
        for name, text in sorted((await wire.call("HGETALL", keys.state(thread_id))).items()):
            lines.append(f"  {name.decode()} = {text.decode()}")
    lines.append(f"due: {await wire.call('ZRANGE', keys.DUE, 0, -1, 'WITHSCORES')}")
    lines.append(f"keys: {sorted(await wire.call('KEYS', '*'))}")
    found = await admin.execute("select * from deletions where done_at is null")
    lines.append(f"deletions owed: {await found.fetchall()}")
    lines.append(f"effects: {play.effects}, time: {play.world.doors.clock.now_ms}")
    return lines


def _steps(plan: Plan) -> list[str]:
    struck = {step.number: kind for step, kind in plan.struck}
    return [
        f"  {step.number:3} {step.who:9} {step.what} {_mark(struck.get(step.number))}".rstrip()
        for step in plan.steps
    ]


def _mark(kind: str | None) -> str:
    if kind is None:
        return ""
    return "== paused before this" if kind == "pause" else f"✝ died {kind} this"
