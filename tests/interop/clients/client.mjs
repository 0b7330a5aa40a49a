// Asks the server of tests/interop/app.py with Node's HTTP client, over TLS for https, and prints what it found, as JSON.
import http from "node:http";
import https from "node:https";

const url = process.argv[2];
const protocol = url.startsWith("https:") ? https : http;
const agent = new protocol.Agent({ keepAlive: true, maxSockets: 1 });

function ask(method, path, { chunks = [], headers = {}, patient = false } = {}) {
  return new Promise((resolve, reject) => {
    const request = protocol.request(url + path, { method, headers, agent }, (response) => {
      const parts = [];
      response.on("data", (part) => parts.push(part));
      response.on("error", reject);
      response.on("end", () =>
        resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(parts).toString() }),
      );
    });
    request.on("error", reject);
    const send = () => {
      for (const chunk of chunks) request.write(chunk);
      request.end();
    };
    if (patient) {
      request.on("continue", send);
      request.flushHeaders();
    } else {
      send();
    }
  });
}

const peers = new Set();
const found = {};
peers.add((await ask("GET", "/peer")).body);
found.text = (await ask("GET", "/text")).body;
found.answer = JSON.parse((await ask("GET", "/json")).body).answer;
found.echo = (await ask("POST", "/echo", { chunks: ["papyrus"], headers: { "Content-Length": 7 } })).body;
found.chunked_echo = (await ask("POST", "/echo", { chunks: ["one,", "two"] })).body;
found.stream = (await ask("GET", "/stream")).body;
const head = await ask("HEAD", "/text");
found.head_length = Number(head.headers["content-length"]);
found.head_body = head.body.length;
found.large = (await ask("GET", "/large")).body.length;
found.missing = (await ask("GET", "/none")).status;
const headers = { "Content-Length": 7, Expect: "100-continue" };
found.continued = (await ask("POST", "/echo", { chunks: ["patient"], headers, patient: true })).body;
peers.add((await ask("GET", "/peer")).body);
found.connections = peers.size;
console.log(JSON.stringify(found));
agent.destroy();
