"""The library imports nothing, and asks the system for nothing, that one system alone has."""

import ast

from conftest import ROOT

ONE_SYSTEMS_OWN = {
    "fcntl",
    "resource",
    "pwd",
    "grp",
    "termios",
    "tty",
    "pty",
    "posix",
    "syslog",
    "msvcrt",
    "winreg",
}
OF_OS = {
    "fork",
    "getuid",
    "geteuid",
    "getpgid",
    "setsid",
    "killpg",
    "uname",
    "getloadavg",
    "sched_getaffinity",
    "nice",
}
OF_SIGNAL = {
    "SIGKILL",
    "SIGHUP",
    "SIGCHLD",
    "SIGALRM",
    "SIGUSR1",
    "SIGUSR2",
    "pthread_sigmask",
    "alarm",
}


def at_import(tree):
    """The nodes that run when a module is imported, but for what stands under an `if`, which may ask first."""
    todo = list(tree.body)
    while todo:
        node = todo.pop()
        if not isinstance(
            node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.If
        ):
            yield node
            todo += ast.iter_child_nodes(node)


def test_no_module_needs_linux_to_be_imported():
    found = set()
    for file in (ROOT / "sae").rglob("*.py"):
        for node in at_import(ast.parse(file.read_text())):
            names, own = [], ONE_SYSTEMS_OWN
            if isinstance(node, ast.Import):
                names = [name.name.partition(".")[0] for name in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [str(node.module).partition(".")[0]]
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                names, own = (
                    [node.attr],
                    {"os": OF_OS, "signal": OF_SIGNAL}.get(node.value.id, set()),
                )
            found |= {
                f"{file.relative_to(ROOT)}: {name}" for name in names if name in own
            }
    assert found == set()
