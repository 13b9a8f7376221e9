#!/bin/sh
# Installed by `dx-runner hooks install`.
# Writes the issues of Beads to their file, so that they travel with the commit. A failure warns; with
# BEADS_FLUSH_STRICT=1 it stops the commit. The hook that was here before runs first and decides as it did.

kept="$(dirname "$0")/pre-commit.before-dx-runner"
if [ -x "$kept" ]; then
    "$kept" "$@" || exit $?
fi

[ -d .beads ] || exit 0

failed() {
    echo "dx-runner hook: Beads was not written: $1" >&2
    if [ "${BEADS_FLUSH_STRICT:-0}" = 1 ]; then
        echo "dx-runner hook: the commit is stopped (BEADS_FLUSH_STRICT=1)" >&2
        exit 1
    fi
    exit 0
}

command -v bd >/dev/null 2>&1 || failed "no bd on PATH"
# git names its repository and index in the environment; bd finds its own.
flush="env -u GIT_DIR -u GIT_INDEX_FILE -u GIT_WORK_TREE bd sync --flush-only"
if command -v timeout >/dev/null 2>&1; then
    flush="timeout ${BEADS_FLUSH_TIMEOUT:-30} $flush"
fi
$flush >/dev/null 2>&1 || failed "\`bd sync --flush-only\` failed or took too long"

# Into this commit, unless the repository ignores it.
if [ -f .beads/issues.jsonl ] && ! git check-ignore -q .beads/issues.jsonl; then
    git add -- .beads/issues.jsonl || failed "its file could not be added"
fi
exit 0
