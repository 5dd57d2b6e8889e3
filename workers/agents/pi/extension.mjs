// The request's tools inside pi. Each call goes over a Unix socket to the worker, which performs
// it: one JSON line there, one back. Closing the connection cancels the call.
import { readFileSync } from "node:fs";
import { connect } from "node:net";

export default function (pi) {
  const bridge = JSON.parse(readFileSync(process.env.ARBE_PI_BRIDGE, "utf8"));
  for (const { name, description, parameters } of bridge.tools) {
    pi.registerTool({
      name,
      label: name,
      description,
      parameters,
      execute: (id, params, signal) => call(bridge, { id, name, arguments: params }, signal),
    });
  }
  // pi adds the date and its folder, which is another one each turn: no provider's cache of the
  // conversation would ever be hit.
  pi.on("before_agent_start", () => ({ systemPrompt: bridge.systemPrompt }));
  if (bridge.mindsEnds) mindEnds();
  if (bridge.leaveOut) {
    pi.on("context", ({ messages }) => ({
      messages: messages.filter((message) => !isText(message, bridge.leaveOut)),
    }));
  }
}

function isText(message, text) {
  if (message.role !== "user") return false;
  const { content } = message;
  if (typeof content === "string") return content === text;
  return content.length === 1 && content[0].text === text;
}

function call(bridge, request, signal) {
  return new Promise((resolve, reject) => {
    const socket = connect(bridge.socket);
    let received = "";
    const abort = () => {
      socket.destroy();
      reject(new Error("aborted"));
    };
    if (signal?.aborted) return abort();
    signal?.addEventListener("abort", abort, { once: true });
    socket.setEncoding("utf8");
    socket.on("connect", () =>
      socket.write(JSON.stringify({ token: bridge.token, ...request }) + "\n"),
    );
    socket.on("data", (data) => (received += data));
    socket.on("error", reject);
    socket.on("close", () => {
      signal?.removeEventListener("abort", abort);
      try {
        const { text, isError } = JSON.parse(received);
        // To pi a tool's error is what it throws.
        if (isError) reject(new Error(text));
        else resolve({ content: [{ type: "text", text }], details: {} });
      } catch {
        reject(new Error("interrupted: the worker did not answer"));
      }
    });
  });
}

// Before 0.84 pi takes a stream that was cut off for a finished answer.
function mindEnds() {
  const fetch = globalThis.fetch;
  globalThis.fetch = async (...request) => {
    const response = await fetch(...request);
    const kind = response.headers.get("content-type") ?? "";
    if (!response.body || !kind.includes("text/event-stream")) return response;
    const decoder = new TextDecoder("latin1");
    let last = "";
    let isWhole = false;
    const minding = new TransformStream({
      transform(data, out) {
        const text = last + decoder.decode(data);
        isWhole ||= /\[DONE\]|"finish_reason":\s*"/.test(text);
        last = text.slice(-64);
        out.enqueue(data);
      },
      flush(out) {
        if (!isWhole) out.error(new Error("terminated: stream ended without finish_reason"));
      },
    });
    const { status, statusText, headers } = response;
    return new Response(response.body.pipeThrough(minding), { status, statusText, headers });
  };
}
