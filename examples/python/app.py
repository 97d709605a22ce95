#!/usr/bin/env python3
"""An application under evaluation: claims come on stdin, verdicts go to stdout, spans to whoever runs it.

`spanscore run` starts it (see spanscore.toml). Each line of stdin is one case as JSON; each gets one line back, in whatever
order the model answers. The application traces itself as it does in production, with the OpenTelemetry SDK and the
instrumentation of the OpenAI SDK. The only thing that ties it to the evaluation is the `traceparent` of each line: the spans of
a case are made below it, and so the score of the case sits on top of them.
"""

import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from openai import OpenAI
from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

MODEL = os.environ.get("MODEL", "gpt-4.1")
THREADS = int(os.environ.get("THREADS", "8"))

SYSTEM = "You check scientific claims against the evidence that you are given, and against nothing else."
QUESTION = """Evidence:
{context}

Claim:
{claim}

Does the evidence bear the claim out? Reply with one word: True if it supports the claim, False if it contradicts it, \
NEE if it is not enough to tell.

Answer:"""


def trace_to_environment() -> TracerProvider:
    """Spans in batches to OTEL_EXPORTER_OTLP_ENDPOINT, which the run sets to its own collector."""
    resource = Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", "claims-app")})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    OpenAIInstrumentor().instrument()
    return provider


def assess_claims_with_context(client: OpenAI, claims: list[str], contexts: list[str]) -> list:
    """The code under test: one chat completion per claim."""
    completions = []
    for claim, evidence in zip(claims, contexts):
        messages = [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": QUESTION.format(claim=claim, context=evidence)},
        ]
        completions.append(client.chat.completions.create(model=MODEL, messages=messages, temperature=0, max_tokens=3))
    return completions


def answer(client: OpenAI, case: dict) -> dict:
    """What is written back for a case. An error is an answer too: it fails this case and no other."""
    known = {"id": case["id"], "repeat": case["repeat"]}
    # From here on, this thread's spans are children of the case's own span.
    token = context.attach(TraceContextTextMapPropagator().extract(case))
    try:
        [completion] = assess_claims_with_context(client, [case["claim"]], [case["context"]])
    except Exception as error:  # whatever went wrong, the evaluation wants to know
        return {**known, "error": {"type": type(error).__name__, "message": str(error)}}
    finally:
        context.detach(token)
    choice, usage = completion.choices[0], completion.usage
    return {
        **known,
        "output": choice.message.content or "",
        "finish_reason": choice.finish_reason,
        "response_id": completion.id,
        "model": completion.model,
        "usage": {"input_tokens": usage.prompt_tokens, "output_tokens": usage.completion_tokens} if usage else None,
    }


def main() -> None:
    provider = trace_to_environment()
    client = OpenAI()
    writing = threading.Lock()

    def work(line: str) -> None:
        line = json.dumps(answer(client, json.loads(line)))
        with writing:
            print(line, flush=True)

    # At the end of stdin the run is over: what is under way is answered, and the last spans are sent.
    with ThreadPoolExecutor(THREADS) as pool:
        for line in sys.stdin:
            pool.submit(work, line)
    provider.shutdown()


if __name__ == "__main__":
    main()
