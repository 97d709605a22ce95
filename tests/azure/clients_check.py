#!/usr/bin/env python3
"""Checks that spanscore asks Azure as Azure's own packages do (see requirements.txt; nothing leaves this machine).

One server on the loopback stands for all of Azure. Each of Microsoft's and OpenAI's clients, and then spanscore, is let loose
on it with the same settings, and what the two asked is compared: method, path, query, the headers that matter, bodies.
Compared are managed identity in five surroundings, a Foundry project's connection string, chat completions of Azure OpenAI by
deployment, at /openai/v1 and of a project, with key and token, and queries of Log Analytics.
"""

import contextlib
import http.server
import json
import os
import sys
import threading
import time
import urllib.parse
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "acceptance"))
sys.dont_write_bytecode = True

import common  # noqa: E402
from azure.ai.projects import AIProjectClient  # noqa: E402
from azure.core.credentials import AccessToken  # noqa: E402
from azure.core.pipeline.policies import _authentication  # noqa: E402
from azure.identity import ManagedIdentityCredential  # noqa: E402
from azure.monitor.query import LogsQueryClient  # noqa: E402
from common import Checks, Spanscore  # noqa: E402
from openai import AzureOpenAI, OpenAI  # noqa: E402

# Headers that say what is wanted and who asks. Of `metadata` see `identity`.
HEADERS = ("authorization", "api-key", "x-identity-header", "secret")
WORKSPACE = "5f8c4b5e-0000-4000-8000-000000000001"
RESOURCE = "/subscriptions/s/resourceGroups/r/providers/microsoft.insights/components/c"


class Azure:
    """Answers all that is asked here as Azure would, and keeps it."""

    def __init__(self):
        azure, self.requests = self, []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                azure.requests.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                text = json.dumps(azure.answer(self.path)).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = answer

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, path):
        path = path.split("?")[0]
        if path.endswith("/connections"):
            return {"value": [{"name": "my insights", "id": "/c", "type": "AppInsights", "target": "/t", "isDefault": True,
                               "credentials": {"type": "ApiKey"}, "metadata": {}}]}
        if path.endswith("/getConnectionWithCredentials"):
            key = f"InstrumentationKey=00000000-0000-4000-8000-000000000001;IngestionEndpoint={self.url}/"
            return {"name": "my insights", "id": "/c", "type": "AppInsights", "target": "/t", "isDefault": True,
                    "credentials": {"type": "ApiKey", "key": key}, "metadata": {}}
        if path.endswith("/chat/completions"):
            message = {"role": "assistant", "content": "True", "refusal": None}
            return {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
                    "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
                    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}
        if path.endswith("/query"):
            return {"tables": [{"name": "PrimaryResult", "columns": [{"name": "timestamp", "type": "datetime"}], "rows": []}]}
        if path.endswith("/track"):
            return {"itemsReceived": 0, "itemsAccepted": 0, "errors": []}
        return {"access_token": "canary", "expires_on": str(int(time.time()) + 3600), "resource": "r", "token_type": "Bearer",
                "expires_in": "3599"}

    def asked(self, about):
        """What was asked since the last call, of paths that hold one of these; each once, in order."""
        requests, self.requests = self.requests, []
        found = []
        for method, path, headers, body in requests:
            path, _, query = path.partition("?")
            told = {name: headers[name] for name in HEADERS if name in headers}
            # Bodies differ, and so do their lengths; that a POST without one says so is asked for.
            told |= {"content-type": headers.get("content-type")} if body else {"content-length": headers.get("content-length")}
            one = (method, urllib.parse.unquote(path), sorted(urllib.parse.parse_qsl(query)), told)
            if any(word in path for word in about) and one not in [other[:4] for other in found]:
                found.append((*one, body))
        return found


@contextlib.contextmanager
def environment(variables):
    """Sets environment variables for a while."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


class Token:
    """A credential that has a token already."""

    def get_token(self, *_scopes, **_options):
        return AccessToken("canary", int(time.time()) + 3600)


def same(check, name, theirs, ours):
    """Compares requests without their bodies."""
    theirs, ours = ([request[:4] for request in requests] for requests in (theirs, ours))
    if not check(theirs and theirs == ours, f"{name}: {len(theirs)} request(s) alike"):
        print(f"      theirs {theirs}\n      ours   {ours}", flush=True)


def identity(check, azure, spanscore):
    suite = (f'[suite]\ndataset = "claims.jsonl"\n[azure]\ncredential = "managed_identity"\n'
             f'project = "{azure.url}/api/projects/p"\n')
    (spanscore.folder / "spanscore.toml").write_text(suite)
    app = {"IDENTITY_ENDPOINT": f"{azure.url}/token", "IDENTITY_HEADER": "canary-header"}
    for name, env in {
        "App Service": app,
        "App Service, of a user": {**app, "AZURE_CLIENT_ID": "client"},
        "Machine Learning": {"MSI_ENDPOINT": f"{azure.url}/token", "MSI_SECRET": "canary-secret"},
        "Cloud Shell": {"MSI_ENDPOINT": f"{azure.url}/token"},
        "virtual machine": {"AZURE_POD_IDENTITY_AUTHORITY_HOST": azure.url},
    }.items():
        with environment(env):
            ManagedIdentityCredential(client_id=env.get("AZURE_CLIENT_ID")).get_token("https://ai.azure.com/.default")
        theirs = azure.asked(["/token"])
        spanscore.call("doctor", "--trace-to", "appinsights", env=env)
        ours = azure.asked(["/token"])
        same(check, f"managed identity, {name}", theirs, ours)
        check([request[4] for request in theirs] == [request[4] for request in ours], f"managed identity, {name}: body")


def project(check, azure, spanscore):
    client = AIProjectClient(endpoint=f"{azure.url}/api/projects/my%20one", credential=Token())
    string = client.telemetry.get_application_insights_connection_string()
    theirs = azure.asked(["/api/projects/"])
    suite = (f'[suite]\ndataset = "claims.jsonl"\n[azure]\ncredential = "token_command"\ntoken_command = ["echo", "canary"]\n'
             f'project = "{azure.url}/api/projects/my%20one"\n')
    (spanscore.folder / "spanscore.toml").write_text(suite)
    code, out, err = spanscore.call("doctor", "--trace-to", "appinsights")
    same(check, "a project's connection string", theirs, azure.asked(["/api/projects/"]))
    check(string.startswith("InstrumentationKey") and "connection `my insights`" in out, "a project's connection string: found by both")
    check("canary" not in out + err, "no token in what doctor says")


def models(check, azure, spanscore):
    def suite(model, more=""):
        text = f'[suite]\ndataset = "claims.jsonl"\n[model]\nprovider = "azure"\nname = "m"\n{model}\n[azure]\n{more}'
        (spanscore.folder / "spanscore.toml").write_text(text)

    token = 'credential = "token_command"\ntoken_command = ["echo", "canary"]\n'
    key = {"AZURE_OPENAI_API_KEY": "canary-key"}
    ask = {"model": "m", "messages": [{"role": "user", "content": "?"}], "max_tokens": 3}
    version = "2024-10-21"
    azure_openai = {"azure_endpoint": azure.url, "azure_deployment": "dep", "api_version": version}
    deployment = f'deployment = "dep"\nbase_url = "{azure.url}"\napi_version = "{version}"'
    v1 = f"{azure.url}/openai/v1/"
    for name, client, model, more, env in [
        ("deployment, key", AzureOpenAI(api_key="canary-key", **azure_openai), deployment, "", key),
        ("deployment, token", AzureOpenAI(azure_ad_token="canary", **azure_openai), deployment, token, {}),
        ("/openai/v1, token", OpenAI(base_url=v1, api_key="canary"), f'base_url = "{v1}"', token, {}),
        ("project", AIProjectClient(endpoint=f"{azure.url}/api/projects/p", credential=Token()).get_openai_client(), "",
         f'{token}project = "{azure.url}/api/projects/p"\n', {}),
    ]:
        client.chat.completions.create(**ask)
        theirs = azure.asked(["/chat/completions"])
        suite(model, more)
        code, _, err = spanscore.call("run", "--limit", "2", "--no-progress", "--trace-to", "none", env=env)
        ours = azure.asked(["/chat/completions"])
        check(code == 0 and "canary" not in err, f"{name}: run ends with {code} {err.strip() if code else ''}")
        same(check, f"chat completions, {name}", theirs, ours)
        bodies = [json.loads(request[4]) for request in (theirs + ours)]
        # Where the path names the deployment, Azure does not look at the body's model.
        check(all(body["messages"] for body in bodies) and ("deployment" in name or {body["model"] for body in bodies} == {"m"}),
              f"chat completions, {name}: bodies")


def logs(check, azure, spanscore):
    client = LogsQueryClient(Token(), endpoint=f"{azure.url}/v1")
    suite = '[suite]\ndataset = "claims.jsonl"\n[azure]\ncredential = "token_command"\ntoken_command = ["echo", "canary"]\n'
    (spanscore.folder / "spanscore.toml").write_text(suite)
    query = "AppDependencies | take 1"
    for name, ask, flag in [
        ("workspace", lambda: client.query_workspace(WORKSPACE, query, timespan=None), ["--workspace", WORKSPACE]),
        ("resource", lambda: client.query_resource(RESOURCE, query, timespan=None), ["--resource", RESOURCE]),
    ]:
        ask()
        theirs = azure.asked(["/query"])
        code, out, err = spanscore.call("import", "appinsights", *flag, "--query", query, "--endpoint", azure.url)
        ours = azure.asked(["/query"])
        check(code == 0 and "canary" not in out + err, f"Log Analytics, {name}: import ends with {code} {err.strip() if code else ''}")
        same(check, f"Log Analytics, {name}", theirs, ours[:1])
        there, here = (json.loads(requests[0][4]) for requests in (theirs, ours))
        check(set(here) == {"query", "timespan"} and query in here["query"] and query in there["query"], f"Log Analytics, {name}: body")


def main():
    options = common.arguments(__doc__).parse_args()
    binary, check, azure = common.binary(options), Checks(), Azure()
    # Microsoft's clients refuse to send a token in the clear, to this machine as well.
    _authentication._enforce_https = lambda request: None
    with common.workspace(options) as folder:
        spanscore = Spanscore(binary, folder)
        common.write_claims(folder / "claims.jsonl", 2)
        identity(check, azure, spanscore)
        project(check, azure, spanscore)
        models(check, azure, spanscore)
        logs(check, azure, spanscore)
    check.exit()


if __name__ == "__main__":
    main()
