"""Tab completion for bash, zsh and fish. Standard library only, until settings are completed."""

import os
import sys
from typing import NoReturn

from deeplabx.command.arguments import fail, is_setting
from deeplabx.command.table import BY_WORDS, FIRST_WORDS, second_words

INSTALL = {
    "bash": """\
_deeplabx() {
    local IFS=$' \\n'
    COMPREPLY=($(COMP_LINE="$COMP_LINE" "${COMP_WORDS[0]}" -sc query 2>/dev/null))
    [[ "${COMPREPLY[0]}" == *[=.] ]] && compopt -o nospace
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -o default -F _deeplabx deeplabx""",
    "zsh": """\
_deeplabx() {
    local -a found
    found=(${=$(COMP_LINE="${(j: :)words[1,CURRENT]}" ${words[1]} -sc query 2>/dev/null)})
    (( $#found )) && compadd -Q -S '' -- $found || _files
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _deeplabx deeplabx""",
    "fish": """\
complete -c deeplabx -a '(env COMP_LINE=(commandline -cp | string collect) deeplabx -sc query 2>/dev/null \
    | string split -n " ")'""",
}


def complete(words: list[str]) -> NoReturn:
    """`-sc install=SHELL` prints the script for a shell; the script asks `-sc query` what can follow
    $COMP_LINE, the line up to the cursor.
    """
    asked, _, shell = words[0].partition("=") if words else ("", "", "")
    if asked == "install" and shell in INSTALL:
        print(INSTALL[shell])
        sys.exit(0)
    if asked != "query":
        fail("-sc needs install=bash, install=zsh or install=fish", 'eval "$(deeplabx -sc install=bash)"')
    line = os.environ.get("COMP_LINE", "")
    typed = line.split()
    whole = typed[1:] if line.endswith(" ") else typed[1:-1]  # the words that are complete
    last = "" if line.endswith(" ") or len(typed) < 2 else typed[-1]
    seconds = second_words(whole[0]) if whole else ()
    if not whole or (seconds and len(whole) == 1):
        print(" ".join(word for word in (seconds if whole else FIRST_WORDS) if word.startswith(last)))
        sys.exit(0)
    count = 2 if seconds else 1
    found = BY_WORDS.get(" ".join(whole[:count]))
    if found is None or not found.schema:
        sys.exit(0)
    settings = [word for word in whole[count:] if is_setting(word) and not word.startswith("plugins=")]
    from deeplabx.command import dispatch

    sys.exit(dispatch.complete(found, " ".join([typed[0], *settings, last])))
