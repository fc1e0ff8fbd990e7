"""Queue a shipped graph on a running ComfyUI through HTTP: python api_example.py WORKFLOW.json [address]."""

import json
import sys
import time
import urllib.request

WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")


def ask(url, data=None):
    with urllib.request.urlopen(url, data and json.dumps(data).encode()) as answer:
        return json.load(answer)


def to_prompt(graph, nodes):
    """What the editor makes of a graph when it is queued; `nodes` is the server's /object_info."""
    prompt, origins = {}, {link[0]: [str(link[1]), link[2]] for link in graph["links"]}
    for node in (node for node in graph["nodes"] if node["type"] in nodes and node["mode"] == 0):
        inputs, values = {}, iter(node["widgets_values"])
        given = nodes[node["type"]]["input"]
        for name, (kind, *options) in {**given["required"], **given.get("optional", {})}.items():
            if isinstance(kind, list) or {*kind.split(",")} <= {*WIDGETS}:
                inputs[name] = next(values)
                if any((options or [{}])[0].get(extra) for extra in ("control_after_generate", "image_upload")):
                    next(values)  # the editor's own
        inputs |= {slot["name"]: origins[slot["link"]] for slot in node["inputs"] if slot["link"] is not None}
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


if __name__ == "__main__":
    file, address = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "http://127.0.0.1:8188"
    with open(file, encoding="utf-8") as opened:
        prompt = to_prompt(json.load(opened), ask(f"{address}/object_info"))
    number = ask(f"{address}/prompt", {"prompt": prompt})["prompt_id"]
    while not (history := ask(f"{address}/history/{number}")):
        time.sleep(1)
    print(json.dumps(history[number]["outputs"], indent=2))
