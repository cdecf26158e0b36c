"""The verbs of `edo flow`, as a user types them: what they print, and their exit codes."""

import json
import socket
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from edo_stream.catalog.scaffold import TopicPlan, project_files, topic_files
from edo_stream.cli.environment import CommandError
from edo_stream.cli.main import app

Run = Callable[..., Result]
FLOW = """\
name: {name}
owner: team
description: Does.
on: {on}
{more}
action: {action}
"""
NOOP = "{kind: noop, idempotency_key: command, replay: safe}"
TOPIC = "shop.order.placed"
EVENT = {
    "specversion": "1.0",
    "id": "e-1",
    "source": "/shop/order",
    "type": TOPIC,
    "subject": "o-1",
    "data": {"order": {"id": "o-1"}, "amount": "129.90"},
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one topic, whose schema has an order's id and an amount, and no flow."""
    for name, text in project_files("shop").items():
        if name.startswith("flows/"):
            continue
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.fixture
def run(project: Path) -> Run:
    def run(*arguments: str) -> Result:
        environment = {
            "EDO_TOPICS": str(project / "topics"),
            "EDO_FLOWS": "",
            "EDO_SERVICE": "shop",
        }
        return CliRunner().invoke(app, ["flow", *arguments], env=environment)

    return run


def write(project: Path, name: str, on: str, more: str = "", action: str = NOOP) -> Path:
    file = project / "flows" / f"{name}.yaml"
    file.parent.mkdir(exist_ok=True)
    text = FLOW.format(name=name, on=on, more=more, action=action)
    file.write_text("\n".join(line for line in text.splitlines() if line) + "\n")
    return file


def record(topic: str, more: str = "") -> str:
    return f"{{kind: record, topic: {topic}, idempotency_key: command, replay: safe{more}}}"


def add_topic(project: Path, name: str) -> None:
    for file, text in topic_files(TopicPlan(name, "team")).items():
        path = project / "topics" / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def refused(result: Result) -> tuple[str, int]:
    assert isinstance(result.exception, CommandError), (result.output, result.exception)
    return str(result.exception), result.exception.code


def event_file(project: Path, **changes: Any) -> str:
    path = project / "event.json"
    path.write_text(json.dumps({**EVENT, **changes}))
    return str(path)


# -- lint


def test_a_project_without_flows_has_no_findings(run: Run) -> None:
    result = run("lint")
    assert (0, "0 flows, no findings\n") == (result.exit_code, result.output)


@pytest.mark.parametrize(
    ("on", "more", "expected"),
    [
        ("shop.order.placd", "", "4: on: no contract of shop.order.placd: did you mean"),
        ("shop.order.confirmed", "", "4: on: no worker reads shop.order.confirmed"),
        (TOPIC, "key: /order/number", "5: key: /order/number is not in v1.schema.json"),
        (f"{{topic: {TOPIC}, match: {{data: {{amont: ['1']}}}}}}", "",
         "4: match: /amont is not in v1.schema.json: did you mean /amount?: it never matches"),
        (f"{{topic: {TOPIC}, match: {{data: {{amount: [5]}}}}}}", "",
         "/amount is a text, and a number is wanted: it never matches"),
        (f"{{topic: {TOPIC}, match: {{data: {{amount: [{{numeric: ['>', 5]}}]}}}}}}", "",
         "/amount is a text, and a number is wanted: it never matches"),
        (f"{{topic: {TOPIC}, match: {{data: {{order: {{id: [{{exists: false}}]}}}}}}}}", "",
         "/order/id is always there"),
        (f"{{topic: {TOPIC}, match: {{detail: {{id: [x]}}}}}}", "", "did you mean data?"),
        (f"{{topic: {TOPIC}, match: {{typ: [x]}}}}", "", "no event has an attribute typ"),
        (f"{{topic: {TOPIC}, match: {{type: [5]}}}}", "", "type is a text, and a number is wanted"),
        (f"{{topic: {TOPIC}, match: {{id: {{x: [y]}}}}}}", "", "id is an attribute, and has"),
        (f"{{topic: {TOPIC}, where: 'data.total > 5'}}", "", "data.total: /total is not in"),
        (f"{{topic: {TOPIC}, where: dat.amount == '1'}}", "", "did you mean data?"),
        (f"{{topic: {TOPIC}, where: my_thing == '1'}}", "", "my_thing can be no attribute"),
        (f"{{topic: {TOPIC}, where: 1 > 2}}", "", "is never true: no event triggers the flow"),
        (f"{{topic: {TOPIC}, where: 'true'}}", "", "is always true: leave it out"),
        (f"[{TOPIC}, {{topic: {TOPIC}, where: data.amount == '1'}}]", "",
         "on.1: says nothing: another entry wants every event"),
        (f"[{TOPIC}, {TOPIC}]", "", "on.1: written twice"),
        (TOPIC, "input: {cel: data.total}", "5: input.cel: data.total: /total is not in"),
        (TOPIC, "input: {template: '{{ data.total }}'}", "data.total: /total is not in"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_at_its_line(
    project: Path, run: Run, on: str, more: str, expected: str
) -> None:
    file = write(project, "ship", on, more)
    result = run("lint")
    assert 1 == result.exit_code
    assert result.output.startswith(f"{file}:")
    assert expected in result.output


@pytest.mark.parametrize(
    "on",
    [
        TOPIC,
        f"{{topic: {TOPIC}, match: {{data: {{amount: [{{prefix: '1'}}, {{exists: false}}]}}}}}}",
        f"{{topic: {TOPIC}, match: {{tenant: [a], $or: [{{id: [x]}}, {{subject: [y]}}]}}}}",
        f"{{topic: {TOPIC}, where: has(data.order) && data.order.id != '' && tenant == 'a'}}",
        f"{{topic: {TOPIC}, where: \"['a'].exists(each_one, each_one == data.amount)\"}}",
    ],
)
def test_what_can_be_is_no_finding(project: Path, run: Run, on: str) -> None:
    write(project, "ship", on, "key: /order/id\ninput: {jq: .data.order}")
    result = run("lint")
    assert (0, "1 flow, no findings\n") == (result.exit_code, result.output)


def test_a_template_speaks_of_fields_that_there_are(project: Path, run: Run) -> None:
    action = NOOP.replace("noop", "http, url: 'http://x/{{ data.order.number }}'")
    write(project, "ship", TOPIC, action=action)
    assert "action.url: data.order.number: /order/number is not in" in run("lint").output
    write(project, "ship", TOPIC, "input: {jq: '{order: {number: 1}}'}", action)
    assert 0 == run("lint").exit_code


def test_handlers_and_templates_that_cannot_be_are_found(project: Path, run: Run) -> None:
    handler = NOOP.replace("noop", "python, handler: 'nowhere.at_all:f'")
    url = NOOP.replace("noop", "http, url: 'http://x/{{', auth: {bearer: 'env:NOT_SET'}")
    write(project, "one", TOPIC, action=handler)
    write(project, "two", TOPIC, action=url)
    output = run("lint").output
    assert "one.yaml:5: action.handler: nowhere.at_all:f" in output
    assert "two.yaml:5: action.url: " in output
    assert "NOT_SET" not in output


def test_a_cycle_is_found_across_flows_and_topics(project: Path, run: Run) -> None:
    add_topic(project, "shop.parcel.sent")
    write(project, "send", TOPIC, action=record("shop.parcel.sent"))
    assert 0 == run("lint").exit_code
    back = write(project, "again", "shop.parcel.sent", action=record(TOPIC))
    result = run("lint", "--json")
    said = json.loads(result.output)
    way = "shop.order.placed → send → shop.parcel.sent → again → shop.order.placed"
    assert [way in one["message"] for one in said["findings"]] == [True, True]
    assert {str(back), str(back.with_name("send.yaml"))} == {
        one["file"] for one in said["findings"]
    }
    (cycle,) = json.loads(run("graph", "--json").output)["cycles"]
    assert cycle == way.split(" → ")


def test_a_flow_that_writes_where_it_reads_is_a_cycle(project: Path, run: Run) -> None:
    write(project, "ship", TOPIC, action=record(TOPIC))
    assert "a cycle, shop.order.placed → ship → shop.order.placed" in run("lint").output


def test_a_cycle_through_results_is_one(project: Path, run: Run) -> None:
    contract = project / "topics" / TOPIC / "contract.yaml"
    add_topic(project, "shop.order.accepted")
    contract.write_text(
        contract.read_text().replace("shop.order.placed.accepted", "shop.order.accepted")
    )
    write(project, "back", "shop.order.accepted", action=record(TOPIC))
    assert "back → shop.order.placed → shop.order.accepted:" in run("lint").output


def test_a_saga_may_be_of_a_cycle_and_is_drawn(project: Path, run: Run) -> None:
    folder = project / "flows" / "sagas"
    folder.mkdir(parents=True)
    (folder / "ship.yaml").write_text(
        f"name: ship\nversion: 1\nowner: t\ndescription: d\non: {TOPIC}\n"
        f"steps:\n  - name: ask\n    action: {record('shop.parcel.sent')}\n"
    )
    add_topic(project, "shop.parcel.sent")
    assert "0 flows, 1 saga, no findings" in run("lint").output
    write(project, "back", "shop.parcel.sent", action=record(TOPIC))
    said = json.loads(run("lint", "--json").output)
    way = "shop.order.placed → ship → ship.v1.ask → shop.parcel.sent → back → shop.order.placed"
    assert [way in one["message"] for one in said["findings"]] == [True, True]
    assert {("back.yaml", 5), ("ship.yaml", 8)} == {
        (Path(one["file"]).name, one["line"]) for one in said["findings"]
    }
    assert 1 == run("lint", "ship").exit_code
    assert "saga_" in run("graph").output
    titles = run("graph", "--format", "svg").output
    assert "<title>saga ship</title>" in titles


def test_a_flow_may_be_asked_for_by_its_name(project: Path, run: Run) -> None:
    write(project, "good", TOPIC)
    write(project, "bad", "shop.order.placd")
    assert 0 == run("lint", "good").exit_code
    assert 1 == run("lint", "bad").exit_code
    assert refused(run("lint", "goood")) == ("flow goood is not declared: did you mean good?", 2)


# -- list, show, graph


def test_flows_are_listed_and_shown(project: Path, run: Run) -> None:
    write(project, "ship", f"{{topic: {TOPIC}, where: data.amount == '1'}}")
    (one,) = json.loads(run("list", "--json").output)
    assert one["on"] == [{"topic": TOPIC, "where": "data.amount == '1'"}]
    assert "ship" in run("list").output
    whole = json.loads(run("show", "ship", "--json").output)
    assert whole["topics"]["commands"] == "edo.commands.ship"
    assert whole["retry"]["retries"] == 5
    assert "edo.outcomes.ship" in run("show", "ship").output
    assert refused(run("show", "shp"))[1] == 2


def test_mistakes_in_the_files_end_with_2(project: Path, run: Run) -> None:
    write(project, "ship", "shop.order.placd")
    for verb in (["list"], ["show", "ship"], ["graph"]):
        message, code = refused(run(*verb))
        assert (2, True) == (code, "no contract of shop.order.placd" in message)


def test_the_graph_is_drawn_as_mermaid_and_as_svg(project: Path, run: Run) -> None:
    write(project, "ship", f"{{topic: {TOPIC}, where: data.amount == '1'}}",
          action=record("shop.order.confirmed"))  # fmt: skip
    write(project, "tell", TOPIC, action="{kind: http, url: 'https://x.example/a<b>?t=1', "
                                         "idempotency_key: command, replay: safe}")  # fmt: skip
    text = run("graph").output
    assert text.startswith("flowchart LR\n")
    assert text.count("-.->") == 1
    assert "t=1" not in text
    file = project / "flows.svg"
    assert 0 == run("graph", "--format", "svg", "--out", str(file)).exit_code
    root = ET.fromstring(file.read_text())
    titles = [node.text for node in root.iter("{http://www.w3.org/2000/svg}title")]
    assert {"topic shop.order.placed", "flow ship", "topic shop.order.confirmed"} <= set(titles)
    ways = [path for path in root.iter("{http://www.w3.org/2000/svg}path") if path.get("class")]
    assert 5 == len(ways)
    assert refused(run("graph", "--format", "png"))[1] == 2


def test_a_graph_of_nothing_is_one(run: Run) -> None:
    assert run("graph").output == "flowchart LR\n"
    assert ET.fromstring(run("graph", "--format", "svg").output).tag.endswith("svg")


def test_boxes_of_a_drawing_do_not_lie_on_one_another(project: Path, run: Run) -> None:
    for number in range(9):
        write(project, f"f-{number}", TOPIC, action=record("shop.order.confirmed"))
    write(project, "round", TOPIC, action=record(TOPIC))
    root = ET.fromstring(run("graph", "--format", "svg").output)
    boxes = [
        [float(box.get(name) or 0) for name in ("x", "y", "width", "height")]
        for box in root.iter("{http://www.w3.org/2000/svg}rect")
    ]
    assert 13 == len(boxes)
    for index, (x, y, width, height) in enumerate(boxes):
        for x2, y2, width2, height2 in boxes[:index]:
            assert x + width <= x2 or x2 + width2 <= x or y + height <= y2 or y2 + height2 <= y


# -- test


def test_an_event_that_triggers_a_flow_is_told_with_its_command_and_action(
    project: Path, run: Run
) -> None:
    write(
        project,
        "ship",
        f"{{topic: {TOPIC}, match: {{subject: [o-1]}}, where: data.amount != '0'}}",
        "key: /order/id\ninput: {cel: \"{'id': data.order.id}\"}",
        "{kind: http, url: 'https://x.example/{{ data.id }}', method: PUT, "
        "auth: {bearer: 'env:NOT_SET'}, idempotency_key: command, replay: safe}",
    )
    result = run("test", "ship", "--event", event_file(project), "--json")
    told = json.loads(result.output)
    assert 0 == result.exit_code
    assert told["conditions"] == [{"on": 0, "isMet": True, "why": None}]
    assert (told["command"]["key"], told["command"]["data"]) == ("o-1", {"id": "o-1"})
    assert told["command"]["topic"] == "edo.commands.ship"
    assert told["action"]["url"] == "https://x.example/o-1"
    assert told["action"]["auth"]["bearer"] == "env:NOT_SET"
    assert told["action"]["body"] == {"id": "o-1"}
    assert "https://x.example/o-1" in run("test", "ship", "--event", event_file(project)).output


@pytest.mark.parametrize(
    ("on", "expected"),
    [
        ("match: {subject: [o-2]}", 'match: subject: expected ["o-2"], found "o-1"'),
        ("match: {tenant: [a], id: [e-1]}", 'match: tenant: expected ["a"], found nothing'),
        ("match: {id: [e-1], data: {order: {id: [{prefix: x}]}}}",
         'match: data.order.id: expected [{"prefix":"x"}], found "o-1"'),
        ("match: {$or: [{id: [x]}, {type: [shop.order.placed], subject: [y]}]}",
         'match: subject: expected ["y"], found "o-1"'),
        ("where: 'data.amount == \"129.90\" && (subject == \"o-2\" || id == \"x\") && true'",
         'where: (subject == "o-2" || id == "x") is false'),
        ("where: data.amount == '1' || id == 'x'",
         "where: data.amount == '1' || id == 'x' is false"),
    ],
)  # fmt: skip
def test_the_first_condition_that_is_false_is_told(
    project: Path, run: Run, on: str, expected: str
) -> None:
    write(project, "ship", f"{{topic: {TOPIC}, {on}}}")
    result = run("test", "ship", "--event", event_file(project), "--json")
    told = json.loads(result.output)
    assert (1, "no-match") == (result.exit_code, told["result"])
    assert expected == told["why"]


@pytest.mark.parametrize(
    ("on", "more", "expected"),
    [
        (f"{{topic: {TOPIC}, where: data.limit > 1}}", "",
         "undecided: where: the event has no limit"),
        (TOPIC, "key: /order/number", "no-key: key: expected /order/number in the event"),
        (TOPIC, "input: {cel: data.limit}", "input: input: the event has no limit"),
    ],
)  # fmt: skip
def test_a_dead_letter_is_told_with_its_reason(
    project: Path, run: Run, on: str, more: str, expected: str
) -> None:
    write(project, "ship", on, more)
    result = run("test", "ship", "--event", event_file(project), "--json")
    told = json.loads(result.output)
    assert (1, "dead-letter") == (result.exit_code, told["result"])
    assert told["why"].startswith(expected)
    assert told["deadLetter"] == {"topic": "edo.dead-letters.ship"}


def test_a_template_that_cannot_be_filled_is_a_dead_letter(project: Path, run: Run) -> None:
    action = record("shop.order.confirmed", ", value: '{{ data.nothing }}'")
    write(project, "ship", TOPIC, action=action)
    told = json.loads(run("test", "ship", "--event", event_file(project), "--json").output)
    assert ("dead-letter", True) == (told["result"], "nothing" in told["why"])


def test_a_record_that_breaks_its_contract_is_no_event(project: Path, run: Run) -> None:
    write(project, "ship", TOPIC)
    file = event_file(project, data={"order": {}})
    result = run("test", "ship", "--event", file)
    assert 1 == result.exit_code
    assert "is no event" in result.output


def test_data_alone_is_an_event_of_the_flow_s_topic(project: Path, run: Run) -> None:
    write(project, "ship", TOPIC)
    path = project / "data.json"
    path.write_text(json.dumps(EVENT["data"]))
    assert 0 == run("test", "ship", "--event", str(path)).exit_code


def test_what_cannot_be_read_ends_with_2(project: Path, run: Run) -> None:
    write(project, "ship", TOPIC)
    (project / "bad.json").write_text("{")
    assert refused(run("test", "ship", "--event", str(project / "bad.json")))[1] == 2
    assert refused(run("test", "ship", "--event", str(project / "none.json")))[1] == 2
    assert refused(run("test", "shp", "--event", event_file(project)))[1] == 2
    wrong = run("test", "ship", "--event", event_file(project), "--topic", "shop.x.y")
    assert refused(wrong) == ("ship is not on shop.x.y: known are shop.order.placed", 2)


# -- new


def test_a_new_flow_passes_the_lint_and_its_samples_do_what_they_say(
    project: Path, run: Run
) -> None:
    result = run("new", "ship-order", "--json")
    assert 0 == result.exit_code
    assert json.loads(result.output)["files"] == [
        "flows/samples/ship-order/unwanted.json",
        "flows/samples/ship-order/wanted.json",
        "flows/ship-order.yaml",
        "handlers/ship_order.py",
        "tests/test_ship_order.py",
    ]
    assert (0, "1 flow, no findings\n") == ((lint := run("lint")).exit_code, lint.output)
    samples = project / "flows/samples/ship-order"
    for name, code in (("wanted", 0), ("unwanted", 1)):
        tried = run("test", "ship-order", "--event", str(samples / f"{name}.json"))
        assert code == tried.exit_code, tried.output


def test_a_new_flow_overwrites_nothing(project: Path, run: Run) -> None:
    run("new", "ship-order")
    assert "is there already" in refused(run("new", "ship-order"))[0]
    (project / "flows" / "send_order.py").write_text("flow = {}\n")
    assert "send_order.py is there already" in refused(run("new", "send-order"))[0]
    assert refused(run("new", "Ship"))[1] == 2
    assert refused(run("new", "other", "--on", "shop.order.placd"))[1] == 2
    add_topic(project, "shop.parcel.sent")
    assert refused(run("new", "other"))[0].startswith("say --on, one of ")


def test_without_a_broker_explain_ends_with_3(project: Path) -> None:
    write(project, "ship", TOPIC)
    with socket.create_server(("127.0.0.1", 0)) as server:
        free_port = server.getsockname()[1]
    environment = {"EDO_TOPICS": str(project / "topics"), "EDO_BROKER": f"127.0.0.1:{free_port}"}
    result = CliRunner().invoke(app, ["flow", "explain", "ship"], env=environment)
    assert 3 == refused(result)[1]


# -- flows that wait

WAITING = """\
name: ready
owner: team
description: Both are there.
when:
  all:
    order: {topic: shop.order.placed, key: /order/id, match: {data: {amount: [{prefix: '1'}]}}}
    parcel: {topic: shop.parcel.sent, key: /parcel/id}
  within: 1d
"""


def write_waiting(project: Path, end: str) -> None:
    add_topic(project, "shop.parcel.sent")
    (project / "flows").mkdir(exist_ok=True)
    (project / "flows/ready.yaml").write_text(WAITING + end)


def test_a_flow_that_waits_tells_which_input_an_event_is(project: Path, run: Run) -> None:
    write_waiting(project, f"action: {NOOP}\n")
    told = json.loads(run("test", "ready", "--event", event_file(project), "--json").output)
    assert (told["result"], told["wait"]["key"]) == ("input", "o-1")
    assert told["conditions"] == [{"input": "order", "isMet": True, "why": None}]
    other = event_file(project, data={"order": {"id": "o-1"}, "amount": "9.00"})
    result = run("test", "ready", "--event", other, "--json")
    assert (1, "no-match") == (result.exit_code, json.loads(result.output)["result"])
    (listed,) = json.loads(run("list", "--json").output)
    assert ["order", "parcel"] == [one["input"] for one in listed["on"]]


def test_a_flow_that_ends_in_an_event_is_reviewed_as_others(project: Path, run: Run) -> None:
    write_waiting(project, "emit: {topic: shop.parcel.sent}\n")
    result = run("lint")
    way = "shop.parcel.sent → ready → shop.parcel.sent"
    assert f"ready.yaml:9: emit.topic: a cycle, {way}" in result.output
    text = (project / "flows/ready.yaml").read_text().replace("amount:", "amont:")
    (project / "flows/ready.yaml").write_text(text)
    assert "ready.yaml:6: match: /amont is not in" in run("lint").output
    assert "shop.parcel.sent" in run("show", "ready").output
    assert json.loads(run("list", "--json").output)[0]["action"] == "event"


def test_a_saga_that_cannot_be_is_a_finding(project: Path, run: Run) -> None:
    (project / "flows/sagas").mkdir(parents=True)
    (project / "flows/sagas/ship.yaml").write_text("name: ship\n")
    result = run("lint")
    assert 1 == result.exit_code
    assert "flows/sagas/ship.yaml" in result.output
