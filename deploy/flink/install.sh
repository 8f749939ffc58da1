#!/usr/bin/env bash
# Installs a pinned Flink and a jar of Beam's job server for it, from PyPI and Maven Central, into a cache folder.
#
#     bash deploy/flink/install.sh            # into ~/.cache/pixdex/flink
#
# PIXDEX_FLINK names another folder, PYTHON the Python whose pip downloads (default python3). What is there already is
# left alone. Flink comes from the source distribution of apache-flink-libraries, which holds all of its jars. The jar
# is for clusters like this one and for machines that cannot download a released job server; where one can, Beam does so
# by itself, and the jar is not needed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=${PIXDEX_FLINK:-${XDG_CACHE_HOME:-$HOME/.cache}/pixdex/flink}
python=${PYTHON:-python3}
. "$here/../versions.env"
flink=$target/flink-$FLINK
jar=$target/beam-flink-${FLINK%.*}-job-server-$FLINK_JOB_SERVER.jar

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

mkdir -p "$target" || fail "$target cannot be made: name another folder with PIXDEX_FLINK"
work=$(mktemp -d "$target/.install.XXXXXX") || fail "$target cannot be written: name another folder with PIXDEX_FLINK"
trap 'rm -rf "$work"' EXIT

if [ ! -d "$flink" ]; then
    "$python" -m pip --version >/dev/null 2>&1 || fail "'$python -m pip' does not run: install pip, or name a Python with PYTHON"
    echo "Flink $FLINK, 230 MB" >&2
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps --no-binary :all: --dest "$work" \
        "apache-flink-libraries==$FLINK" >"$work/pip.log" 2>&1 ||
        fail "pip cannot download apache-flink-libraries $FLINK ($(tail -n 1 "$work/pip.log")): see to the network, or put its source distribution into a folder that PIP_FIND_LINKS names"
    mkdir "$work/flink"
    tar -xzf "$work/apache-flink-libraries-$FLINK.tar.gz" -C "$work/flink" --strip-components=2 \
        --wildcards '*/deps/lib' '*/deps/plugins' '*/deps/bin' '*/deps/licenses' ||
        fail "apache-flink-libraries $FLINK cannot be unpacked into $target: make room there"
    mv -T "$work/flink" "$flink"
fi

if [ ! -f "$jar" ]; then
    command -v mvn >/dev/null || fail "Maven is missing: install it (Debian: apt install maven), or put a job server's jar at $jar"
    mvn --version >"$work/maven.log" 2>&1 || fail "Maven does not run ($(tail -n 1 "$work/maven.log")): install Java 17 (Debian: apt install openjdk-17-jdk-headless), or see to JAVA_HOME"
    echo "Beam's job server $FLINK_JOB_SERVER for Flink ${FLINK%.*}, 150 MB" >&2
    mvn --batch-mode --quiet --file "$here/pom.xml" "-Dtarget=$work/target" "-Dflink.minor=${FLINK%.*}" \
        "-Djob.server.version=$FLINK_JOB_SERVER" package >"$work/maven.log" 2>&1 ||
        fail "Maven cannot make the job server ($(grep -m 1 ERROR "$work/maven.log" || tail -n 1 "$work/maven.log")): see to the network, or put a job server's jar at $jar"
    mv "$work/target/beam-flink-job-server-$FLINK_JOB_SERVER.jar" "$jar"
fi

echo "$target"
