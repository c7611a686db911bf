// Makes the calls it reads as lines of JSON and writes what came of each as a line of JSON; tests/conformance/README.md has the form.
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const folders = [process.env.CONDUCTOR_PROTOS, process.env.CONFORMANCE_PROTOS];
const files = folders.flatMap((folder) =>
  readdirSync(folder, { recursive: true }).filter((name) => name.endsWith(".proto")).map((name) => join(folder, name)),
);
const types = loader.loadSync(files, { includeDirs: folders, longs: String, enums: String, bytes: String });
const status = (name) => types[`google.rpc.${name}`];
const names = Object.fromEntries(Object.entries(grpc.status).map(([name, number]) => [number, name]));
const clients = new Map();

function client(target) {
  if (!clients.has(target)) clients.set(target, new grpc.Client(target, grpc.credentials.createInsecure()));
  return clients.get(target);
}

// protobuf's JSON writes durations as "1.5s" and times as "2026-09-21T13:33:20.123456789Z"; the library wants {seconds, nanos}.
const duration = (text) => ({ seconds: Math.trunc(parseFloat(text)), nanos: Math.round((parseFloat(text) % 1) * 1e9) });
const time = (text) => ({ seconds: Math.floor(Date.parse(text) / 1000), nanos: Number((/\.(\d+)/.exec(text)?.[1] ?? "").padEnd(9, "0")) });
const convert = { wait: duration, timeToLive: duration, timeout: duration, time };
const parse = (line) => JSON.parse(line, (key, value) => (typeof value === "string" && convert[key] ? convert[key](value) : value));

function failure(error) {
  const told = { code: names[error.code], message: error.details };
  const [raw] = error.metadata?.get("grpc-status-details-bin") ?? [];
  for (const { typeUrl, value } of raw ? (decode(status("Status"), raw).details ?? []) : []) {
    const name = typeUrl.split(".").pop();
    if (name === "ErrorInfo") Object.assign(told, { metadata: {} }, decode(status(name), Buffer.from(value, "base64")));
    if (name === "RetryInfo") told.retrySeconds = Number(decode(status(name), Buffer.from(value, "base64")).retryDelay?.seconds ?? 0);
  }
  return told;
}
const decode = (type, bytes) => type.deserialize(bytes);

function perform({ target, token, method, request, raw, requests, raws, until, seconds = 10 }) {
  const [service, name] = method.split("/");
  const { requestSerialize, responseDeserialize } = types[service][name];
  const metadata = new grpc.Metadata();
  if (token) metadata.set("authorization", `Bearer ${token}`);
  const bytes = (raw ?? raws) !== undefined;
  const write = bytes ? (value) => Buffer.from(value, "base64") : requestSerialize;
  const read = bytes ? (value) => value : responseDeserialize;
  const [path, options] = [`/${method}`, { deadline: Date.now() + seconds * 1000 }];
  return new Promise((resolve) => {
    if (until === undefined) {
      client(target).makeUnaryRequest(path, write, read, raw ?? request ?? {}, metadata, options, (error, answer) =>
        resolve(error ? { error: failure(error) } : bytes ? { raw: answer.toString("base64") } : { response: answer }),
      );
      return;
    }
    const responses = [];
    const stream = client(target).makeBidiStreamRequest(path, write, responseDeserialize, metadata, options);
    stream.on("data", (answer) => {
      responses.push(answer);
      if (until in answer) resolve({ responses }), stream.cancel();
    });
    stream.on("error", (error) => resolve({ error: failure(error), responses }));
    stream.on("end", () => resolve({ responses }));
    for (const each of raws ?? requests) stream.write(each);
  });
}

for await (const line of createInterface({ input: process.stdin })) {
  const step = parse(line);
  const tell = (outcome) => process.stdout.write(JSON.stringify({ id: step.id, ...outcome }) + "\n");
  perform(step).then(tell, (fault) => tell({ fault: String(fault) }));
}
process.exit(0);
