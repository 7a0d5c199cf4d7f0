"""The library imports nothing, and asks for nothing, that one system alone has."""

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
    """Yield the nodes that run when a module is imported.

    What stands under an `if` is left out, since the `if` may ask for the system first.
    """
    todo = list(tree.body)
    while todo:
        node = todo.pop()
        if not isinstance(
            node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.If
        ):
            yield node
            todo += ast.iter_child_nodes(node)


def test_no_module_needs_linux_to_be_imported():
    problems = set()
    for file in (ROOT / "sae").rglob("*.py"):
        for node in at_import(ast.parse(file.read_text())):
            names = []
            of_one_system = ONE_SYSTEMS_OWN
            if isinstance(node, ast.Import):
                names = [name.name.partition(".")[0] for name in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [str(node.module).partition(".")[0]]
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                names = [node.attr]
                by_module = {"os": OF_OS, "signal": OF_SIGNAL}
                of_one_system = by_module.get(node.value.id, set())
            for name in of_one_system.intersection(names):
                problems.add(f"{file.relative_to(ROOT)}: {name}")
    assert problems == set()
