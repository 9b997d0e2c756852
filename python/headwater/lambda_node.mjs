// A runtime of Node for functions in the form of AWS Lambda: `exports.handler = async (event, context)`.
//
// It speaks the Lambda Runtime API at AWS_LAMBDA_RUNTIME_API. The handler is `file.function`: a
// CommonJS or ES module in LAMBDA_TASK_ROOT. It returns a value or a promise, or calls its third
// argument. `awslambda.streamifyResponse(handler)` marks handlers that write to a stream.

import { existsSync } from "node:fs";
import { Agent, request } from "node:http";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { pathToFileURL } from "node:url";

const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(":");
const agent = new Agent({ keepAlive: true, maxSockets: 1 });
const ROOT = "/2018-06-01/runtime";
const STREAMING = Symbol("streaming");
const SEPARATOR = Buffer.alloc(8);
const HTTP_RESPONSE = "application/vnd.awslambda.http-integration-response";

globalThis.awslambda = {
  streamifyResponse(handler) {
    handler[STREAMING] = true;
    return handler;
  },
  HttpResponseStream: {
    from(stream, prelude) {
      stream.setContentType(HTTP_RESPONSE);
      stream.write(JSON.stringify(prelude));
      stream.write(SEPARATOR);
      return stream;
    },
  },
};

/** Sends a request. Resolves with the response and its body. */
function call(method, path, headers = {}, body = undefined) {
  return new Promise((resolve, reject) => {
    const sent = request({ host, port, agent, method, path: ROOT + path, headers }, (response) => {
      const chunks = [];
      response.on("data", (chunk) => chunks.push(chunk));
      response.on("error", reject);
      response.on("end", () => resolve({ response, body: Buffer.concat(chunks) }));
    });
    sent.on("error", reject);
    sent.end(body);
  });
}

/** Returns an error in Lambda's form. */
function described(error) {
  if (!(error instanceof Error)) {
    return { errorType: typeof error, errorMessage: String(error), trace: [] };
  }
  const lines = (error.stack ?? "").split("\n").slice(1).map((line) => line.trim());
  const trace = lines.filter((line) => !line.includes("lambda_node.mjs") && !line.includes("node:"));
  return { errorType: error.name, errorMessage: error.message, trace };
}

async function postError(path, error) {
  const body = JSON.stringify(described(error));
  const headers = {
    "Content-Type": "application/json",
    "Lambda-Runtime-Function-Error-Type": described(error).errorType,
  };
  await call("POST", path, headers, body);
}

/** Imports the handler: `dir/file.function`, where the function may be a path of properties. */
async function load(handler, root) {
  const start = handler.lastIndexOf("/") + 1;
  const [file, ...names] = handler.slice(start).split(".");
  const base = join(root, handler.slice(0, start), file);
  const path = [".js", ".mjs", ".cjs"].map((end) => base + end).find(existsSync);
  if (path === undefined) {
    throw new Error(`there is no file \`${base}.js\`, \`.mjs\` or \`.cjs\``);
  }
  const module = await import(pathToFileURL(path));
  const find = (from) => names.reduce((found, name) => found?.[name], from);
  const found = find(module) ?? find(module.default);
  if (typeof found !== "function") {
    throw new Error(`\`${path}\` exports no function \`${names.join(".")}\``);
  }
  return found;
}

function contextOf(headers) {
  const deadline = Number(headers["lambda-runtime-deadline-ms"]);
  const clientContext = headers["lambda-runtime-client-context"];
  return {
    functionName: process.env.AWS_LAMBDA_FUNCTION_NAME,
    functionVersion: process.env.AWS_LAMBDA_FUNCTION_VERSION,
    memoryLimitInMB: process.env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: process.env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: process.env.AWS_LAMBDA_LOG_STREAM_NAME,
    awsRequestId: headers["lambda-runtime-aws-request-id"],
    invokedFunctionArn: headers["lambda-runtime-invoked-function-arn"],
    clientContext: clientContext && JSON.parse(clientContext),
    callbackWaitsForEmptyEventLoop: true,
    getRemainingTimeInMillis: () => Math.max(deadline - Date.now(), 0),
  };
}

/** Calls a handler. Resolves with its result. */
function invoke(handler, event, context) {
  return new Promise((resolve, reject) => {
    const callback = (error, result) => (error ? reject(error) : resolve(result));
    context.done = callback;
    context.succeed = resolve;
    context.fail = reject;
    const returned = handler(event, context, callback);
    if (typeof returned?.then === "function") {
      returned.then(resolve, reject);
    } else if (handler.length < 3) {
      resolve(returned);
    }
  });
}

/** Calls a handler that writes its answer to a stream. An error after the start is a trailer. */
async function stream(handler, event, context, id) {
  const answer = new PassThrough();
  let contentType = "application/octet-stream";
  answer.setContentType = (type) => (contentType = type);
  let sent;
  const responded = new Promise((resolve, reject) => {
    const begin = () => {
      sent = request({ host, port, agent, method: "POST", path: `${ROOT}/invocation/${id}/response` });
      sent.setHeader("Content-Type", contentType);
      sent.setHeader("Lambda-Runtime-Function-Response-Mode", "streaming");
      sent.setHeader("Transfer-Encoding", "chunked");
      sent.setHeader(
        "Trailer",
        "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body",
      );
      sent.on("error", reject);
      sent.on("response", (response) => response.on("end", resolve).resume());
      answer.pipe(sent, { end: false });
    };
    answer.once("readable", begin);
  });
  try {
    await handler(event, answer, context);
    answer.end();
  } catch (error) {
    if (sent === undefined) {
      answer.destroy();
      throw error;
    }
    const { errorType } = described(error);
    const body = Buffer.from(JSON.stringify(described(error))).toString("base64");
    sent.addTrailers({
      "Lambda-Runtime-Function-Error-Type": errorType,
      "Lambda-Runtime-Function-Error-Body": body,
    });
    answer.end();
  }
  await new Promise((resolve) => (answer.readableEnded ? resolve() : answer.once("end", resolve)));
  sent?.end();
  await responded;
}

async function serve(handler) {
  for (;;) {
    const { response, body } = await call("GET", "/invocation/next");
    const id = response.headers["lambda-runtime-aws-request-id"];
    process.env._X_AMZN_TRACE_ID = response.headers["lambda-runtime-trace-id"];
    const context = contextOf(response.headers);
    try {
      const event = JSON.parse(body);
      if (handler[STREAMING]) {
        await stream(handler, event, context, id);
        continue;
      }
      const result = await invoke(handler, event, context);
      const answer = JSON.stringify(result === undefined ? null : result);
      await call("POST", `/invocation/${id}/response`, { "Content-Type": "application/json" }, answer);
    } catch (error) {
      await postError(`/invocation/${id}/error`, error);
    }
  }
}

let handler;
try {
  handler = await load(process.env._HANDLER, process.env.LAMBDA_TASK_ROOT);
} catch (error) {
  await postError("/init/error", error);
  process.exit(1);
}
await serve(handler);
