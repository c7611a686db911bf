// A long-running agent: takes tasks, asks and answers other agents. Written from docs/protocol.md, part 1.
import { createHash, randomUUID } from "node:crypto";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

// Every call has a deadline, and is repeated as it is after UNAVAILABLE.
const retryPolicy = { maxAttempts: 5, initialBackoff: "0.5s", maxBackoff: "5s", backoffMultiplier: 2, retryableStatusCodes: ["UNAVAILABLE"] };
const methodConfig = [{ name: [{ service: "claude_conductor.v1.LocalService" }], timeout: "70s", waitForReady: true, retryPolicy }];

const protos = process.env.CONDUCTOR_PROTOS ?? fileURLToPath(new URL("../../../proto", import.meta.url));
const definition = loader.loadSync("claude_conductor/v1/local_service.proto", { includeDirs: [protos], defaults: true, longs: String, enums: String });
const { LocalService } = grpc.loadPackageDefinition(definition).claude_conductor.v1;
const sidecar = new LocalService(`unix:${process.env.CONDUCTOR_SOCKET}`, grpc.credentials.createInsecure(), {
  "grpc.service_config": JSON.stringify({ methodConfig }),
});
const call = (method, request) => promisify(sidecar[method]).call(sidecar, request);

// An answer's id is made from the question's: a process that comes after this one does not answer twice.
async function send(recipient, type, text, correlationId = "") {
  const id = correlationId ? createHash("sha256").update(`answer to ${correlationId}`).digest("hex") : randomUUID().replaceAll("-", "");
  const envelope = { id: `msg_${id.slice(0, 32)}`, type, correlationId, data: Buffer.from(text) };
  return (await call("send", { recipient, envelope })).messageId;
}

// The prompt is `ask PEER QUESTION` or `answer N`: it takes as long as it takes; the task's time-out bounds it.
async function work(prompt) {
  const [verb, peer, ...words] = prompt.split(" ");
  const asked = verb === "ask" ? await send(peer, "question", words.join(" ")) : "nothing";
  let [answered, answer] = [0, undefined];
  while (answer === undefined) {
    const { messages } = await call("fetch", { wait: { seconds: 60 } });
    for (const { sender, mailbox, position, envelope } of messages) {
      if (envelope.type === "question") {
        await send(sender.replace("agent/", ""), "answer", `node heard: ${envelope.data}`, envelope.id);
        await call("reportProgress", { text: `answered ${++answered}` });
        if (verb === "answer" && answered >= Number(peer ?? 1)) answer = `answered ${answered}`;
      } else if (envelope.correlationId === asked) {
        answer = `${envelope.type}: ${envelope.data}`;
      }
      await call("acknowledge", { mailbox, positions: [position] }); // last: what is not acknowledged comes to the next process
    }
  }
  return answer;
}

for (;;) {
  const task = await call("nextTask", { wait: { seconds: 30 } }).catch((error) => error);
  if (task.code === grpc.status.DEADLINE_EXCEEDED) continue; // none came
  if (task instanceof Error) throw task;
  const end = await work(task.spec.prompt).then((summary) => ({ summary }), (error) => ({ failure: { message: error.message } }));
  const refused = await call("completeTask", { taskId: task.taskId, ...end }).catch((error) => error);
  if (refused instanceof Error && refused.code !== grpc.status.FAILED_PRECONDITION) throw refused; // else somebody else has it now
}
