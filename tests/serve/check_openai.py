#!/usr/bin/env python3
"""Talks to `hadal serve` through the `openai` package.

    cargo build --release
    target/release/hadal train --steps 20 --out runs/served
    python tests/serve/check_openai.py --model runs/served [--hadal target/release/hadal]

needs openai; checked with 3.57. Starts the server on a free port, and checks models, completions and chats, as a whole
and as streams, several choices, stops, errors by their classes, a full queue, streams that are left, and 64 clients at
a time, each of which must get what it gets alone. Ends with status 1 if anything differs.
"""

import argparse
import asyncio
import subprocess
import sys
import time

import openai

QUESTION = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Where is Mara?"}]


def start(args, *more):
    command = [args.hadal, "serve", args.model, "--port", "0", "--name", "m", *more]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for line in server.stderr:
        if " listens on http" in line:
            return server, "http" + line.strip().rsplit(" http", 1)[1]
    sys.exit("the server ended: " + " ".join(command))


def ask(i):
    """Request number i: each another."""
    messages = [{"role": "user", "content": "Where? " * (1 + i % 9)}]
    return dict(model="m", messages=messages, seed=i, max_tokens=5 + i % 30)


def check_answers(client):
    assert [model.id for model in client.models.list()] == ["m"]
    assert client.models.retrieve("m").owned_by == "hadal"
    text = client.completions.create(model="m", prompt=["One", "Two"], n=2, max_tokens=8, seed=1, stop=["\u0001"])
    assert [choice.index for choice in text.choices] == [0, 1, 2, 3] and text.usage.completion_tokens <= 32
    streamed = client.completions.create(model="m", prompt=["One", "Two"], n=2, max_tokens=8, seed=1, stream=True)
    parts = [""] * 4
    for chunk in streamed:
        parts[chunk.choices[0].index] += chunk.choices[0].text
    assert parts == [choice.text for choice in text.choices]
    settings = dict(model="m", messages=QUESTION, seed=7, max_completion_tokens=40, temperature=0.8, top_p=0.9)
    settings["extra_body"] = dict(top_k=40, min_p=0.01, repetition_penalty=1.05)
    chat = client.chat.completions.create(**settings)
    said, finish, usage = "", None, None
    for chunk in client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **settings):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            said, finish = said + (choice.delta.content or ""), choice.finish_reason or finish
    assert (said, finish) == (chat.choices[0].message.content, chat.choices[0].finish_reason)
    assert usage == chat.usage and usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def check_errors(client):
    for error, settings in [
        (openai.NotFoundError, dict(model="other", messages=QUESTION)),
        (openai.BadRequestError, dict(model="m", messages=[])),
        (openai.BadRequestError, dict(model="m", messages=QUESTION, frequency_penalty=1)),
        (openai.BadRequestError, dict(model="m", messages=[{"role": "user", "content": "Mara " * 20000}])),
    ]:
        try:
            client.chat.completions.create(**settings)
        except error as e:
            assert e.body["message"] and e.body["type"] == "invalid_request_error", e.body
        else:
            raise AssertionError(f"{settings} was not refused by {error}")
    try:
        client.completions.create(model="m", prompt="a" * (2 << 20))
    except openai.APIStatusError as e:
        assert e.status_code == 413, e
    else:
        raise AssertionError("a body of 2 MiB was not refused")


async def check_load(url):
    client = openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0)

    async def whole(i):
        return (await client.chat.completions.create(**ask(i))).choices[0].message.content

    async def streamed(i):
        chunks = [chunk async for chunk in await client.chat.completions.create(stream=True, **ask(i))]
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

    alone = [await whole(i) for i in range(64)]
    begin = time.monotonic()
    for _ in range(4):
        together = await asyncio.gather(*(streamed(i) if i % 2 else whole(i) for i in range(64)))
        assert together == alone, "somebody got something else than alone"
    print(f"64 clients, 4 rounds: each got what it gets alone, in {time.monotonic() - begin:.1f} s")


def check_queue(args):
    server, url = start(args, "--slots", "1", "--queue", "0")
    try:
        client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
        busy = client.completions.create(model="m", prompt="One", max_tokens=10000, stream=True, seed=1)
        next(iter(busy))
        try:
            client.completions.create(model="m", prompt="One")
        except openai.RateLimitError as e:
            assert e.code == "queue_full", e
        else:
            print("the first answer was over too soon to see a full queue")
        busy.close()
        patient = openai.OpenAI(base_url=url, api_key="none", max_retries=5)
        patient.completions.create(model="m", prompt="One", max_tokens=2)
    finally:
        server.terminate()
    assert server.wait() == 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--hadal", default="target/release/hadal")
    parser.add_argument("--model", required=True)
    args = parser.parse_args()
    server, url = start(args)
    try:
        client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
        check_answers(client)
        check_errors(client)
        asyncio.run(check_load(url))
    finally:
        server.terminate()
    assert server.wait() == 0
    check_queue(args)
    print(f"openai {openai.__version__}: all as it should be")


if __name__ == "__main__":
    main()
