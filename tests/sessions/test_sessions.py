"""Sessions outlive the program, grow evenly, share what they share, and take one process at a time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mgem_agent.errors import InputError
from mgem_agent.sessions.sessions import Sessions, default_session_folder


@pytest.fixture(params=["memory", "sqlite"])
def sessions(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sessions]:
    made = Sessions.in_memory() if request.param == "memory" else Sessions.at(tmp_path / "sessions")
    yield made
    made.close()


def say(sessions: Sessions, session: str, *turns: str) -> None:
    for turn in turns:
        sessions.begin(session, {"turn": turn}, title=f"about {turn}")
        sessions.finish(session, {"id": turn, "messages": []})


def ids(sessions: Sessions, session: str, **options: Any) -> list[str]:
    return [turn["id"] for turn in sessions.turns(session, **options)]


def test_turns_come_back_in_order(sessions: Sessions) -> None:
    say(sessions, "tale", "a", "b", "c")
    assert ids(sessions, "tale") == ["a", "b", "c"]
    assert ids(sessions, "tale", limit=2) == ["b", "c"]
    assert ids(sessions, "nobody") == []


def test_the_list_shows_the_latest_first(sessions: Sessions) -> None:
    say(sessions, "tale", "a", "b")
    sessions.begin("song", {"turn": "c"}, title="about c")
    newest, oldest = sessions.list()
    assert (newest.name, newest.num_turns, newest.title, newest.unfinished) == ("song", 0, "about c", True)
    assert (oldest.name, oldest.num_turns, oldest.title, oldest.unfinished) == ("tale", 2, "about a", False)
    assert newest.updated >= oldest.updated


def test_finishing_twice_is_finishing_once(sessions: Sessions) -> None:
    say(sessions, "tale", "a", "b")
    sessions.finish("tale", {"id": "b", "messages": []})
    assert ids(sessions, "tale") == ["a", "b"]
    assert sessions.list()[0].num_turns == 2


def test_one_turn_at_a_time(sessions: Sessions) -> None:
    sessions.begin("tale", {"turn": "a"}, title="")
    assert sessions.open_turn("tale") == {"turn": "a"}
    assert sessions.open_turn("song") is None
    with pytest.raises(InputError, match=r"^Session 'tale' has an unfinished turn\. Call resume\('tale'\) to continue"):
        sessions.begin("tale", {"turn": "b"}, title="")


def test_what_is_drawn_is_noted_until_the_turn_is_over(sessions: Sessions) -> None:
    sessions.begin("tale", {"turn": "a"}, title="")
    sessions.note_drawn("a", "0.1", {"artifact": "img-1"})
    sessions.note_drawn("b", "0.0", {"artifact": "img-2"})
    assert sessions.drawn("a") == {"0.1": {"artifact": "img-1"}}
    sessions.finish("tale", {"id": "a"})
    assert sessions.drawn("a") == {}
    assert sessions.drawn("b") == {"0.0": {"artifact": "img-2"}}


def test_undo_goes_back_turn_by_turn(sessions: Sessions) -> None:
    say(sessions, "tale", "a", "b")
    sessions.begin("tale", {"turn": "c"}, title="")
    for left in (["a", "b"], ["a"], []):
        sessions.undo("tale")
        assert ids(sessions, "tale") == left
    with pytest.raises(InputError, match=r"^Session 'tale' has no turn to undo\."):
        sessions.undo("tale")


def test_a_fork_goes_its_own_way(sessions: Sessions) -> None:
    say(sessions, "tale", "a")
    sessions.fork("tale", "song")
    say(sessions, "tale", "b")
    say(sessions, "song", "c")
    assert (ids(sessions, "tale"), ids(sessions, "song")) == (["a", "b"], ["a", "c"])
    with pytest.raises(InputError, match=r"^The session 'song' already exists\. Choose another name\."):
        sessions.fork("tale", "song")


def test_a_fork_may_end_at_an_earlier_turn(sessions: Sessions) -> None:
    for turn in "abc":
        say(sessions, "tale", turn)
    sessions.fork("tale", "song", turn="b")
    say(sessions, "song", "d")
    assert (ids(sessions, "tale"), ids(sessions, "song")) == (["a", "b", "c"], ["a", "b", "d"])
    assert sessions.summary("song").num_turns == 3
    with pytest.raises(InputError, match=r"^Session 'tale' has no turn 'd'\. It may have been undone\."):
        sessions.fork("tale", "other", turn="d")


def test_notes_belong_to_one_user(sessions: Sessions) -> None:
    other = sessions.of_user("ann")
    sessions.put_note("responses", "r1", {"turn": "a"})
    assert (sessions.note("responses", "r1"), other.note("responses", "r1")) == ({"turn": "a"}, None)
    other.delete_note("responses", "r1")
    assert sessions.note("responses", "r1") == {"turn": "a"}
    sessions.delete_note("responses", "r1")
    assert sessions.note("responses", "r1") is None
    assert sessions.list() == []


def test_deleting_one_leaves_what_the_other_shares(sessions: Sessions) -> None:
    say(sessions, "tale", "a")
    sessions.fork("tale", "song")
    sessions.begin("tale", {"turn": "b"}, title="")
    sessions.delete("tale")
    assert [summary.name for summary in sessions.list()] == ["song"]
    assert (ids(sessions, "tale"), ids(sessions, "song")) == ([], ["a"])
    sessions.delete("song")
    assert sessions.list() == []
    say(sessions, "song", "d")
    assert ids(sessions, "song") == ["d"]


@pytest.mark.parametrize("act", ["undo", "delete", "fork"])
def test_a_session_that_is_not_there(sessions: Sessions, act: str) -> None:
    say(sessions, "tale", "a")
    arguments = ("talle", "new") if act == "fork" else ("talle",)
    with pytest.raises(
        InputError, match=r"^There is no session 'talle'\. The latest sessions: 'tale'\. List all: mgem sessions"
    ):
        getattr(sessions, act)(*arguments)


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a" * 201])
def test_names_that_are_none(sessions: Sessions, name: str) -> None:
    with pytest.raises(InputError, match=r"is not a valid session name\. Use 1 to 200 printable characters\."):
        sessions.hold(name)


def test_a_name_is_no_path(tmp_path: Path) -> None:
    sessions = Sessions.at(tmp_path / "deep" / "sessions")
    with sessions.hold("../../escape"):
        say(sessions, "../../escape", "a")
    assert ids(sessions, "../../escape") == ["a"]
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["sessions"]
    sessions.close()


def test_sessions_outlive_the_program(tmp_path: Path) -> None:
    first = Sessions.at(tmp_path)
    say(first, "tale", "a", "b")
    first.close()
    second = Sessions.at(tmp_path)
    assert ids(second, "tale") == ["a", "b"]
    second.close()


def test_they_lie_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MGEM_HOME", str(tmp_path / "home"))
    assert default_session_folder() == tmp_path / "home" / "sessions"
    Sessions.at().close()
    assert (tmp_path / "home" / "sessions" / "sessions.sqlite").is_file()
    monkeypatch.delenv("MGEM_HOME")
    assert default_session_folder().parts[-2:] == ("mgem-agent", "sessions")


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError, match=r"^Sessions cannot be saved in '.*file': .*Give a writable folder"):
        Sessions.at(tmp_path / "file")
    (tmp_path / "sessions.sqlite").write_text("not a database, but longer than a header of one would have to be" * 9)
    with pytest.raises(InputError, match=r"file is not a database\. Give a writable folder"):
        Sessions.at(tmp_path)


def test_the_second_holder_is_refused_and_the_session_is_free_afterwards(sessions: Sessions) -> None:
    with sessions.hold("tale"):
        with (
            pytest.raises(InputError, match=r"^Session 'tale' is in use by .*Wait until its turn ends, or use an"),
            sessions.hold("tale"),
        ):
            pass
        with sessions.hold("song"):
            pass
    with sessions.hold("tale"):
        pass


HOLDER = """
import sys, time
from mgem_agent.sessions.sessions import Sessions
with Sessions.at(sys.argv[1]).hold("tale"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_another_process_is_named_and_its_death_frees_the_session(tmp_path: Path) -> None:
    sessions = Sessions.at(tmp_path)
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=rf"is in use by process {holder.pid} on "), sessions.hold("tale"):
            pass
        holder.kill()
    with sessions.hold("tale"):
        pass
    sessions.close()


def test_pictures_are_counted(sessions: Sessions) -> None:
    for turn, drawn in (("a", ["img-1"]), ("b", ["img-2", "img-3"])):
        sessions.begin("tale", {"turn": turn}, title="")
        sessions.finish("tale", {"id": turn, "pictures": [{"artifact": name} for name in drawn]})
    sessions.fork("tale", "song")
    sessions.undo("tale")
    assert {each.name: each.num_pictures for each in sessions.list()} == {"tale": 1, "song": 3}
