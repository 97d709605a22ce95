// An application traced with OpenTelemetry's SDK for JavaScript: what a span or log record can hold, sent once.
//
//     node app.cjs MODULES PROTOCOL COMPRESSION TRACES_ENDPOINT LOGS_ENDPOINT
//
// MODULES is the folder where npm installed package.json; PROTOCOL `grpc`, `http/protobuf` or `http/json`, COMPRESSION
// `gzip` or `none`. Started by ../check.py.
"use strict";

const { createRequire } = require("node:module");
const path = require("node:path");

const [modules, protocol, compression, tracesUrl, logsUrl] = process.argv.slice(2);
const need = createRequire(path.join(modules, "package.json"));

const api = need("@opentelemetry/api");
const { SeverityNumber } = need("@opentelemetry/api-logs");
const { resourceFromAttributes } = need("@opentelemetry/resources");
const { BasicTracerProvider, BatchSpanProcessor } = need("@opentelemetry/sdk-trace-base");
const { LoggerProvider, SimpleLogRecordProcessor } = need("@opentelemetry/sdk-logs");

const STRANGE = 'naïve 日本語 🧪 \u202eright\u202c \x1b[31m "quotes" <b>&amp;</b> \\ \u0000 end';

const problems = [];
const problem = (...words) => problems.push(words.join(" "));
api.diag.setLogger({ error: problem, warn: problem, info() {}, debug() {}, verbose() {} }, api.DiagLogLevel.WARN);

function exporters() {
  const options = (url) => ({ url, compression });
  if (protocol === "grpc") {
    const { OTLPTraceExporter } = need("@opentelemetry/exporter-trace-otlp-grpc");
    return [new OTLPTraceExporter(options(tracesUrl)), null];
  }
  const kind = protocol === "http/json" ? "http" : "proto";
  const { OTLPTraceExporter } = need(`@opentelemetry/exporter-trace-otlp-${kind}`);
  const { OTLPLogExporter } = need(`@opentelemetry/exporter-logs-otlp-${kind}`);
  return [new OTLPTraceExporter(options(tracesUrl)), new OTLPLogExporter(options(logsUrl))];
}

function spans(provider) {
  const tracer = provider.getTracer("library.one", "1.2.3", { schemaUrl: "https://opentelemetry.io/schemas/1.41.1" });
  const other = provider.getTracer("library.two");
  const remote = {
    traceId: "0af7651916cd43dd8448eb211c80319c", spanId: "b7ad6b7169203331", traceFlags: 1, isRemote: true,
    traceState: api.createTraceState("vendor=a=b,rojo=00f067aa"),
  };
  const root = tracer.startSpan(`root ${STRANGE}`, {
    kind: api.SpanKind.SERVER, links: [{ context: remote, attributes: { why: "retry" } }],
  });
  root.setAttributes({
    "int.small": -1, "int.safe": Number.MAX_SAFE_INTEGER, "int.large": 2 ** 60,
    "double.small": 5e-324, "negative.zero": -0, nan: NaN, infinity: Infinity, "minus.infinity": -Infinity, third: 1 / 3,
    yes: true, no: false, text: STRANGE, "text.empty": "", [`key ${STRANGE}`]: "strange key",
    ints: [1, 2, 3], texts: ["a", "", STRANGE], doubles: [0.5, NaN], booleans: [true, false], none: [], holes: ["a", null],
  });
  root.addEvent("gen_ai.evaluation.result", {
    "gen_ai.evaluation.name": "faithfulness", "gen_ai.evaluation.score.value": 0.25,
    "gen_ai.evaluation.score.label": "low", "gen_ai.evaluation.explanation": STRANGE,
  });
  root.addEvent("empty event", { none: [], nan: NaN });
  const inside = api.trace.setSpan(api.ROOT_CONTEXT, root);
  const chat = other.startSpan("chat model", { kind: api.SpanKind.CLIENT, links: [{ context: root.spanContext() }] }, inside);
  chat.setAttributes({ "gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 7 });
  chat.recordException(new TypeError(`the model said ${STRANGE}`));
  chat.setStatus({ code: api.SpanStatusCode.ERROR, message: `failed: ${STRANGE}` });
  chat.end();
  const fine = tracer.startSpan("fine", { kind: api.SpanKind.PRODUCER }, inside);
  fine.setStatus({ code: api.SpanStatusCode.OK });
  fine.end();
  root.end();
  const full = tracer.startSpan("with a remote parent", { kind: api.SpanKind.CONSUMER }, api.trace.setSpanContext(api.ROOT_CONTEXT, remote));
  for (let i = 0; i < 40; i++) full.setAttribute(`attribute.${i}`, i);
  for (let i = 0; i < 6; i++) full.addEvent(`event ${i}`, { a: 1, b: 2, c: 3, d: 4, e: 5, f: 6 });
  for (let i = 0; i < 6; i++) full.addLink({ context: remote, attributes: { a: 1, b: 2, c: 3, d: 4, e: 5, f: 6 } });
  full.end();
  tracer.startSpan("").end();
  const instant = tracer.startSpan("no time at all", { startTime: [1_700_000_000, 123_456_789] });
  instant.end([1_700_000_000, 123_456_789]);
  return api.trace.setSpan(api.ROOT_CONTEXT, chat);
}

function logs(provider, context) {
  const logger = provider.getLogger("library.logs", "0.1", { schemaUrl: "https://opentelemetry.io/schemas/1.41.1" });
  const emit = (fields) => logger.emit({ timestamp: [1_700_000_000, 1], observedTimestamp: [1_700_000_000, 2], ...fields });
  const nested = {
    role: "user", content: [{ type: "text", text: STRANGE }, { type: "number", value: 1 }, [], {}],
    deep: { deeper: { deepest: [[["x"]]] } }, nothing: null, bytes: new Uint8Array([1, 255]), nan: NaN,
  };
  emit({
    context, body: nested, eventName: "gen_ai.user.message", severityNumber: SeverityNumber.INFO, severityText: "INFO",
    attributes: { "gen_ai.system": "openai", none: [], nan: NaN, map: { a: [1, "b", null] } },
  });
  emit({ context, eventName: "gen_ai.evaluation.result", attributes: {
    "gen_ai.evaluation.name": "relevance", "gen_ai.evaluation.score.value": 1.0, "gen_ai.evaluation.score.label": "pass" } });
  emit({ context: api.ROOT_CONTEXT, body: `no span ${STRANGE}`, severityNumber: SeverityNumber.FATAL4, severityText: "F" });
  emit({ context: api.ROOT_CONTEXT, body: ["a", 1, 2.5, true, null, new Uint8Array([255]), { k: [] }] });
  emit({ context: api.ROOT_CONTEXT, attributes: Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`k${i}`, i])) });
  emit({ context: api.ROOT_CONTEXT, body: 7 });
}

async function main() {
  const [spanExporter, logExporter] = exporters();
  const resource = resourceFromAttributes({ "service.name": `sdk check ${STRANGE}`, list: ["a", "b"], count: 3, none: [] });
  const tracers = new BasicTracerProvider({
    resource, spanProcessors: [new BatchSpanProcessor(spanExporter)],
    spanLimits: { attributeCountLimit: 32, eventCountLimit: 4, linkCountLimit: 4, attributePerEventCountLimit: 4, attributePerLinkCountLimit: 4 },
  });
  const context = spans(tracers);
  await tracers.shutdown();
  if (logExporter) {
    const loggers = new LoggerProvider({
      resource, processors: [new SimpleLogRecordProcessor({ exporter: logExporter })], logRecordLimits: { attributeCountLimit: 32 },
    });
    logs(loggers, context);
    await loggers.shutdown();
  }
  const failed = problems.filter((line) => /export|status|response/i.test(line));
  if (failed.length) {
    console.error(failed.join("\n"));
    process.exitCode = 1;
  }
}

main();
