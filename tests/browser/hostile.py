"""Text that wants to be executed, put into every place of a store that holds text.

The strings follow the classes of OWASP's list of ways around XSS filters; each would call `__pwned` if it ran.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "acceptance"))

import telemetry as t  # noqa: E402

FORMS = [
    '<script>__pwned(N)</script>', '"><script>__pwned(N)</script>', "'><script>__pwned(N)</script>", '<ScRiPt>__pwned(N)</sCrIpT>',
    '<<script>__pwned(N);//<</script>', '<script/x>__pwned(N)</script>', '<script>__pwned(N)', '</script><script>__pwned(N)</script>',
    '</title><script>__pwned(N)</script>', '</textarea><script>__pwned(N)</script>', '</style><script>__pwned(N)</script>',
    '--><script>__pwned(N)</script><!--', ']]><script>__pwned(N)</script>', '</pre></code><script>__pwned(N)</script>',
    '<img src=x onerror=__pwned(N)>', '"><img src=x onerror="__pwned(N)">', '<img """><script>__pwned(N)</script>">',
    '<img src="x:x" onerror="&#95;&#95;pwned(N)">', '<IMG SRC=/ onerror=\x0c__pwned(N)>', '<img/src=x/onerror=__pwned(N)>',
    '<svg onload=__pwned(N)>', '<svg><script>__pwned(N)</script></svg>', '<svg><animate onbegin=__pwned(N) attributeName=x dur=1s>',
    '<math><mtext><table><mglyph><style><img src=x onerror=__pwned(N)>', '<body onload=__pwned(N)>', '<details open ontoggle=__pwned(N)>',
    '<input autofocus onfocus=__pwned(N)>', '<select autofocus onfocus=__pwned(N)>', '<video><source onerror=__pwned(N)>',
    '<marquee onstart=__pwned(N)>', '<iframe src="javascript:parent.__pwned(N)"></iframe>',
    '<iframe srcdoc="<script>parent.__pwned(N)</script>"></iframe>', '<object data="javascript:__pwned(N)"></object>',
    '<embed src="javascript:__pwned(N)">', '<a href="javascript:__pwned(N)">click</a>', '<a href="jav&#x0A;ascript:__pwned(N)">click</a>',
    '<form action="javascript:__pwned(N)"><button autofocus>go</button></form>', '<base href="javascript:__pwned(N)//">',
    '<meta http-equiv="refresh" content="0;url=javascript:__pwned(N)">', '<link rel=stylesheet href="javascript:__pwned(N)">',
    '<div style="background:url(javascript:__pwned(N))">', '<style>*{x:expression(__pwned(N))}</style>', 'javascript:__pwned(N)',
    'JaVaScRiPt:__pwned(N)//', '" onmouseover="__pwned(N)" x="', "' onfocus='__pwned(N)' autofocus x='", '" autofocus onfocus=__pwned(N) x="',
    'x onload=__pwned(N)', '%3Cscript%3E__pwned(N)%3C/script%3E', '&lt;script&gt;__pwned(N)&lt;/script&gt;',
    '&#60;script&#62;__pwned(N)&#60;/script&#62;', '\\u003cscript\\u003e__pwned(N)\\u003c/script\\u003e', '+ADw-script+AD4-__pwned(N)+ADw-/script+AD4-',
    "';__pwned(N);//", '";__pwned(N);//', '${__pwned(N)}', '`;__pwned(N);//', "{{constructor.constructor('__pwned(N)')()}}",
    '<scr\u200bipt>__pwned(N)</scr\u200bipt>', '\u202e<script>__pwned(N)</script>', '<template><script>__pwned(N)</script></template>',
    '<noscript><p title="</noscript><img src=x onerror=__pwned(N)>">', '<xss onclick="__pwned(N)" tabindex=1 id=x></xss>',
    'data:text/html,<script>__pwned(N)</script>',
]

ATTACKS = [form.replace("N", str(i)) for i, form in enumerate(FORMS)]


def attack(i):
    return ATTACKS[i % len(ATTACKS)]


def run(spanscore, folder):
    """Two runs whose claims, contexts, ids, groups, columns, answers and names attack."""
    # Ids, groups and names take no control characters.
    plain = lambda text: "".join(c for c in text if c.isprintable())
    rows, answers = [], []
    for i in range(len(ATTACKS)):
        case = f"{i}-{plain(attack(i))}"
        rows.append({"id": case, "claim": f"{attack(i)} claim", "context": f"{attack(i + 1)} context", "label": ("True", "False", "NEE")[i % 3],
                     "group": plain(attack(i + 2)), "column": attack(i + 3)})
        answers.append({"id": case, "raw": attack(i) if i % 2 else "True", "model": plain(attack(i + 5)), "finish_reason": "stop"})
    write = lambda name, lines: (folder / name).write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    write("hostile.jsonl", rows)
    write("answers.jsonl", answers)
    (folder / "hostile.toml").write_text(f"""[suite]
name = {json.dumps(attack(0))}
dataset = "hostile.jsonl"
evaluators = ["label_match", "valid_label", "abstention"]
primary = "label_match"
[model]
provider = "replay"
name = {json.dumps(attack(15))}
[workflow]
kind = "assess_claims_with_context"
[trace]
capture_content = true
""", encoding="utf-8")
    for name in (attack(15), attack(1)):
        code, _, err = spanscore.call("run", folder / "hostile.toml", "--replay", folder / "answers.jsonl", "--name", name, "--tag",
                                      f"{plain(attack(20)).replace('=', '')}={plain(attack(21))}", "--no-progress")
        if code:
            raise RuntimeError(f"the run of hostile claims ended with {code}: {err[-2000:]}")


def telemetry(server):
    """A trace for each attack, which stands in every field of it that holds text."""
    for i, text in enumerate(ATTACKS):
        n = 1000 + i
        first, chat = n * 16 + 1, n * 16 + 2
        messages = json.dumps([{"role": text, "parts": [{"type": "text", "content": text}, {"type": text, "content": text},
                                                        {"type": "tool_call", "id": text, "name": text, "arguments": {text: text}}]}])
        spans = [
            t.span(n, first, None, text, attrs={text: text, "nested": {text: [text]}, "session.id": text, "trace_url": text},
                   status=2, message=text, traceState="x=1", events=[t.event(text, {text: text}), t.event("exception", {
                       "exception.type": text, "exception.message": text, "exception.stacktrace": text})],
                   links=[{"traceId": t.trace_id(1000), "spanId": t.span_id(16001), "traceState": text, "attributes": t.attributes({text: text})}]),
            t.span(n, chat, first, f"chat {text}", kind=3, attrs={
                "gen_ai.operation.name": "chat", "gen_ai.request.model": text, "gen_ai.input.messages": messages,
                "gen_ai.output.messages": messages, "gen_ai.system_instructions": text, "input.value": text, "output.value": text,
                "gen_ai.tool.name": text, "error.type": text, "evaluations.0.evaluation.name": text,
                "evaluations.0.evaluation.score": 0.1, "evaluations.0.evaluation.label": text, "evaluations.0.evaluation.explanation": text},
                   events=[t.evaluation(text, 0.25, text, text)]),
        ]
        t.send(server, t.traces(spans, service=text, scope=text, resource={text: text}))
        t.send(server, t.logs([t.log(text, n, chat), t.log({"role": text, "content": text}, n, chat, "gen_ai.user.message", {text: text}),
                               t.log(text, n, chat, text, {"gen_ai.evaluation.name": text, "gen_ai.evaluation.score.value": 0.5})], service=text, scope=text))
