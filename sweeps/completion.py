"""``rewind-ray completion bash|zsh|fish``: a script that completes commands and their options.

Examples:
  rewind-ray completion bash > ~/.local/share/bash-completion/completions/rewind-ray
  rewind-ray completion zsh > ~/.zfunc/_rewind-ray       (with fpath+=~/.zfunc before compinit)
  rewind-ray completion fish > ~/.config/fish/completions/rewind-ray.fish
"""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress

from analysis.commands import COMMANDS as ANALYSIS
from sweeps.entry import COMMANDS
from sweeps.entry import main as entry

WRONG_USAGE = 2
OPTION = re.compile(r"^[│|\s]*(?:-\w, )?(--[a-z][a-z0-9-]*)", re.MULTILINE)
"""At the start of a line of a help, inside tyro's box."""
SUBCOMMANDS: dict[str, tuple[str, ...]] = {
    "analysis": tuple(ANALYSIS),
    "storage": ("status", "gc", "verify"),
    "list": ("networks", "datasets", "protocols", "methods", "criteria"),
    "completion": ("bash", "zsh", "fish"),
    "renda2020": (*(f"fig{number}" for number in range(1, 13)), "table1"),
    "mikler2022": (*(f"fig{number}" for number in range(1, 7)), "table5"),
    "wang2023": ("table4", "table5", "table6", "table7", "setups"),
}
"""First words after a command, where there are some."""


def help_of(words: Sequence[str]) -> str:
    """What a command prints with ``--help``; empty where it prints none."""
    shown = io.StringIO()
    with redirect_stdout(shown), redirect_stderr(io.StringIO()), suppress(SystemExit):
        entry([*words, "--help"])
    return shown.getvalue()


def words_after() -> dict[str, list[str]]:
    """A command, or command and subcommand -> the words that may follow: subcommands, options."""
    found = {"": [*COMMANDS, "--help", "--version"]}
    for name in COMMANDS:
        nested = SUBCOMMANDS.get(name, ())
        found[name] = [*nested, *sorted({*OPTION.findall(help_of([name])), "--help"})]
        if name in ("analysis", "storage"):
            for sub in nested:
                options = OPTION.findall(help_of([name, sub]))
                found[f"{name} {sub}"] = sorted({*options, "--help"})
    return found


def bash_script(words: Mapping[str, Sequence[str]]) -> str:
    """Files are completed where no word fits."""
    cases = "\n".join(f'    "{key}") words="{" ".join(after)}" ;;' for key, after in words.items())
    return f"""# bash completion of rewind-ray
_rewind_ray() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" key="" words=""
  [ "$COMP_CWORD" -gt 1 ] && key="${{COMP_WORDS[1]}}"
  case "$key" in
    analysis|storage) [ "$COMP_CWORD" -gt 2 ] && key="$key ${{COMP_WORDS[2]}}" ;;
  esac
  case "$key" in
{cases}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _rewind_ray rewind-ray
"""


def zsh_script(words: Mapping[str, Sequence[str]]) -> str:
    cases = "\n".join(f'    "{key}") after=({" ".join(after)}) ;;' for key, after in words.items())
    return f"""#compdef rewind-ray
_rewind_ray() {{
  local key=""
  local -a after
  (( CURRENT > 2 )) && key="$words[2]"
  case "$key" in
    analysis|storage) (( CURRENT > 3 )) && key="$key $words[3]" ;;
  esac
  case "$key" in
{cases}
  esac
  compadd -- $after || _files
}}
if [ "$funcstack[1]" = _rewind-ray ]; then
  _rewind_ray "$@"
else
  compdef _rewind_ray rewind-ray
fi
"""


def fish_script(words: Mapping[str, Sequence[str]]) -> str:
    lines = ["# fish completion of rewind-ray"]
    for key, after in words.items():
        when = f"__fish_seen_subcommand_from {key.split()[0]}" if key else "__fish_use_subcommand"
        if " " in key:
            when += f"; and __fish_seen_subcommand_from {key.split()[1]}"
        for word in after:
            what = f"-l {word[2:]}" if word.startswith("--") else f"-f -a {word}"
            lines.append(f'complete -c rewind-ray -n "{when}" {what}')
    return "\n".join(lines) + "\n"


SHELLS = {"bash": bash_script, "zsh": zsh_script, "fish": fish_script}


def main(typed: Sequence[str]) -> int:
    """Print the script of a shell; the exit code."""
    if len(typed) == 1 and typed[0] in SHELLS:
        os.environ["COLUMNS"] = "200"  # no option's name is broken off
        print(SHELLS[typed[0]](words_after()), end="", flush=True)
        return 0
    if typed and typed[0] in ("--help", "-h"):
        print(f"usage: rewind-ray completion {'|'.join(SHELLS)}\n\n{__doc__}")
        return 0
    given = " ".join(typed) or "nothing"
    print(f"error: the shell is {given!r}; allowed: {', '.join(SHELLS)}", file=sys.stderr)
    return WRONG_USAGE
