# SPDX-License-Identifier: GPL-2.0-only
# Sourced by scripts that unpack packages of another Debian release into the cache: apt with folders
# of its own, so that no privilege is needed and nothing of the system changes. apt checks signature
# and hashes as always. The caller sets $apt (a folder to be filled) and has a function die.

# Print the mirrors that this machine has for its own Debian: they have the other releases as well.
print_mirrors() {
	codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
	# shellcheck disable=SC2016 # apt fills them in
	apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
		awk -v codename="$codename" '
			$2 ~ "^(" codename "|stable|oldstable)$" && $3 == "main" && !seen[$1]++ { print $1 }'
}

# private_apt apt-get|apt-cache ARGUMENT...: the command, with the folders below $apt.
private_apt() {
	tool=$1
	shift
	"$tool" --quiet --quiet -o Dir::State="$apt/state" -o Dir::State::status="$apt/status" \
		-o Dir::Cache="$apt/cache" -o Dir::Etc::sourcelist="$apt/sources.list" \
		-o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::preferences=/dev/null \
		-o Dir::Etc::preferencesparts=/dev/null -o Acquire::Languages=none \
		-o Acquire::Retries=3 -o APT::Sandbox::User=root -o APT::Update::Error-Mode=any "$@"
}

# with_mirror "SUITE..." FUNCTION: call FUNCTION, with the lists of the suites there for private_apt,
# until it succeeds with one of the mirrors.
with_mirror() {
	suites=$1
	command -v apt-get >/dev/null || die "needs apt-get, to get packages of Debian $suites"
	mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial"
	: >"$apt/status" # nothing is installed there: every dependency is wanted
	mirrors=$(print_mirrors)
	[ -n "$mirrors" ] || die "apt's sources name no Debian mirror to get packages of $suites from"
	for mirror in $mirrors; do
		for suite in $suites; do
			echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"
		done >"$apt/sources.list"
		if private_apt apt-get update >&2 && "$2"; then
			return
		fi
	done
	die "cannot get the packages of $suites from any of: $mirrors"
}
