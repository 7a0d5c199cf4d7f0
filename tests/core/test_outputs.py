"""A command replaces only files that it wrote, and leaves all else in place."""

import os

import pytest
from support.errors import refused_naming

from sae.core import files, outputs

OLD = {"index.html": "old", "data/a/0.js": "0", "data/b/1.js": "1"}
NEW = {"index.html": "new", "data/a/0.js": "00", "data/c.js": "2"}
MINE = {"notes.txt": "mine", ".git/HEAD": "ref", "data/mine.csv": "1,2"}
LIST = "x.sums.json"


def write(folder, content):
    for name, text in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def run(out, content):
    """Do what a command of the name x does."""
    outputs.check_folder(out, "x", ["index.html", "data/a/0.js"])
    with outputs.replacing_folder(out, "x", last="index.html") as made:
        write(made, content)


def content_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and path.name != LIST
    }


@pytest.fixture
def out(tmp_path):
    """Return a folder that was written, to which a user added files."""
    run(tmp_path / "out", OLD)
    write(tmp_path / "out", MINE)
    return tmp_path / "out"


def test_what_a_command_wrote_goes_and_all_else_stays(out):
    run(out, NEW)
    assert content_of(out) == NEW | MINE
    assert not (out / "data/b").exists()
    files.check_sums(out / LIST)
    assert set(files.read_json(out / LIST)) == set(NEW)
    # A folder that was the user's before.
    write(out / "theirs", MINE)
    run(out / "theirs", OLD)
    assert content_of(out / "theirs") == OLD | MINE


def make_a_folder_of_the_page(out):
    (out / "index.html").unlink()
    write(out, {"index.html/page": "mine"})


def link_the_folder_in_it(out):
    (out / "data").rename(out / "moved")
    (out / "data").symlink_to("moved")


def link_it(out):
    out.rename(out.with_name("real"))
    out.symlink_to("real")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda out: (out / "index.html").write_text("edited"), "index.html"),
        (lambda out: (out / "data/b/1.js").write_text("edited"), "1.js"),
        (make_a_folder_of_the_page, "index.html"),
        (link_the_folder_in_it, "data"),
        (link_it, "link"),
        (lambda out: (out / LIST).unlink(), LIST),
        (lambda out: (out / LIST).write_text("{}"), LIST),
        (lambda out: files.write_json(out / LIST, {"../a": "0"}), "../a"),
    ],
)
def test_what_is_not_its_own_is_refused_before_any_work(out, change, named):
    change(out)
    before = content_of(out)
    with refused_naming(named, "name"):
        outputs.check_folder(out, "x", ["index.html"])
    assert content_of(out) == before


def test_a_name_that_is_taken_after_all_is_refused_before_anything_is_touched(out):
    before = content_of(out)
    with refused_naming("mine.csv", LIST):
        run(out, {"index.html": "new", "data/mine.csv": "theirs"})
    assert content_of(out) == before


def test_a_kill_leaves_a_file_alone_as_it_was_or_as_it_is_to_be(tmp_path):
    file = tmp_path / "codes.parquet"

    def encode(text):
        with outputs.replacing_file(file) as temporary:
            temporary.write_text(text)

    encode("old")
    seen = set()
    ended = False
    run_count = 0
    while not ended:
        process = os.fork()
        if not process:
            run_until_killed(lambda: encode("new"), after=run_count)
        ended = not os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        seen.add(file.read_text())
        outputs.check_file(file)
        encode("old")
        run_count += 1
    assert seen == {"old", "new"}
    assert run_count > 3


def test_a_kill_leaves_no_half_taken_for_a_whole_and_no_file_without_its_list(out):
    run_count = 0
    while True:
        process = os.fork()
        if not process:
            run_until_killed(lambda: run(out, NEW), after=run_count)
        ended = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

        found = content_of(out)
        assert MINE.items() <= found.items()
        rest = {name for name in found if ".tmp" not in name} - set(MINE)
        if "index.html" in rest:
            version = NEW if found["index.html"] == "new" else OLD
            assert {name: found[name] for name in rest} == version
        # It goes on where it was killed.
        run(out, NEW)
        assert content_of(out) == NEW | MINE
        run(out, OLD)
        if not ended:
            break
        run_count += 1
    assert run_count > len(OLD) + len(NEW)


def run_until_killed(command, after):
    """Run a command in this process, which ends at a change of a file."""
    calls = 0

    def counted(function):
        def call(*arguments, **options):
            nonlocal calls
            if calls == after:
                os._exit(9)
            calls += 1
            return function(*arguments, **options)

        return call

    for name in ("replace", "rename", "unlink", "mkdir", "rmdir"):
        setattr(os, name, counted(getattr(os, name)))
    command()
    os._exit(0)


def test_a_file_replaces_what_the_command_wrote(tmp_path):
    out = tmp_path / "new/codes.parquet"
    for text in ("old", "new"):
        outputs.check_file(out)
        with outputs.replacing_file(out) as temporary:
            temporary.write_text(text)
        assert out.read_text() == text
    (out.parent / "plot.png").write_text("mine")
    out.write_text("edited")
    for file in (out, out.parent / "plot.png"):
        before = file.read_text()
        with refused_naming(str(file), "name"):
            outputs.check_file(file)
        with refused_naming(str(file)), outputs.replacing_file(file) as temporary:
            temporary.write_text("theirs")
        assert file.read_text() == before
    assert sorted(path.name for path in out.parent.iterdir()) == [
        "codes.parquet",
        "codes.parquet.sums.json",
        "plot.png",
    ]
