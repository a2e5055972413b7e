# shellcheck shell=bash
#
# What .ci/run, runtests and quickstart share: Debian's packages, pgvector,
# PostgreSQL servers of other versions.  Source it; it does nothing by itself.
#
# Every step may be repeated: what is there already is left alone.  What takes
# long is kept outside the tree, in $SPFRESH_CACHE, under a name that holds its
# version and its flags, so that nothing stale is ever taken for the real thing.
# Of those folders only complete ones exist: they are made under another name
# and renamed as the last step.

if [ "$(id -u)" = 0 ]; then
	SPF_CACHE=${SPFRESH_CACHE:-/var/cache/spfresh}
else
	SPF_CACHE=${SPFRESH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/spfresh}
fi
SPF_JOBS=${SPFRESH_JOBS:-$(nproc)}

say()	{ printf '\n== %s\n' "$*" >&2; }

# fail "what went wrong" "what to do"
fail()
{
	printf '\nERROR: %s\n' "$1" >&2
	[ -z "${2:-}" ] || printf 'WHAT TO DO: %s\n' "$2" >&2
	return 1
}

# A line for the log and, on file descriptor 3 where that is open, for the user who waits
progress()
{
	printf '%s\n' "$*"
	if { true >&3; } 2>/dev/null; then printf '[%s] %s\n' "${SPF_LEG:-test}" "$*" >&3; fi
}

note()	{ progress "$*" >&2; }

have()	{ command -v "$1" >/dev/null 2>&1; }

# A run that shows its output only when it fails: logged LOGFILE COMMAND...
logged()
{
	local log=$1
	shift
	mkdir -p "$(dirname "$log")"
	if ! "$@" >"$log" 2>&1 </dev/null; then
		printf '   failed: %s\n   the end of %s:\n' "$*" "$log" >&2
		tail -n 30 "$log" | sed 's/^/   | /' >&2
		return 1
	fi
}

# One process at a time may make a given thing: with_lock NAME COMMAND...
with_lock()
{
	local name=$1
	shift
	mkdir -p "$SPF_CACHE/locks"
	(
		flock 9
		"$@" 9>&-
	) 9>"$SPF_CACHE/locks/$name"
}

need_root()
{
	[ "$(id -u)" = 0 ] ||
		fail "this must run as root (it installs packages)" "run it again by: sudo $0"
}

# ---------------------------------------------------------------- packages

debian_version()
{
	# shellcheck disable=SC1091
	(. /etc/os-release 2>/dev/null && [ "${ID:-}" = debian ] && printf '%s\n' "${VERSION_ID:-}")
}

# Is the package there to install?
package_known()
{
	[ -n "$(apt-cache madison "$1" 2>/dev/null)" ]
}

package_installed()
{
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# Fetch the package lists, unless that was done within the hour.
apt_update()
{
	[ "$(id -u)" = 0 ] || return 0
	with_lock apt apt_update_locked
}

apt_update_locked()
{
	[ -z "$(find "$SPF_CACHE/apt-updated" -mmin -60 2>/dev/null)" ] || return 0
	if logged "$SPF_CACHE/log/apt-update" apt-get -q update; then
		touch "$SPF_CACHE/apt-updated"
	else
		note "apt-get update failed; going on with the package lists there are"
	fi
}

# Install what is missing of the packages given.
#
# A server package normally makes and starts a cluster "main"; no test and no
# trial of ours wants that, so unless the machine says something about it
# already, that is switched off while we install (and only then).
install_packages()
{
	local missing=() p

	for p in "$@"; do
		package_installed "$p" || missing+=("$p")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	need_root || return 1
	apt_update
	with_lock apt install_packages_locked "${missing[@]}"
}

install_packages_locked()
{
	local conf=/etc/postgresql-common/createcluster.conf made='' rc=0

	if [ ! -e "$conf" ]; then
		mkdir -p "$(dirname "$conf")"
		echo 'create_main_cluster = false' >"$conf"
		made=1
	fi
	note "installing $*"
	DEBIAN_FRONTEND=noninteractive logged "$SPF_CACHE/log/apt-install" \
		apt-get -q -y --no-install-recommends -o Dpkg::Options::=--force-confold \
		-o DPkg::Lock::Timeout=300 install "$@" || rc=$?
	if [ -n "$made" ]; then
		rm -f "$conf"
		# the package's own default, had we not been first
		if [ -e "$conf.dpkg-dist" ]; then mv "$conf.dpkg-dist" "$conf"; fi
		if [ -e "$conf.dpkg-new" ]; then rm -f "$conf.dpkg-new"; fi
	fi
	[ $rc = 0 ] ||
		fail "apt-get could not install: $*" \
			"see $SPF_CACHE/log/apt-install; check the network and apt's sources, then run this again"
}

# The mirror that this machine's own apt uses for Debian proper.
debian_mirror()
{
	local m

	# shellcheck disable=SC2016
	m=$(apt-get indextargets --format '$(SITE)' 'Label: Debian' 'Created-By: Packages' 2>/dev/null | head -n 1)
	if [ -z "$m" ]; then
		apt_update
		# shellcheck disable=SC2016
		m=$(apt-get indextargets --format '$(SITE)' 'Label: Debian' 'Created-By: Packages' 2>/dev/null | head -n 1)
	fi
	[ -n "$m" ] || fail "apt names no Debian mirror" "add Debian's entry to /etc/apt/sources.list and run apt-get update"
	printf '%s\n' "$m"
}

# apt-get with a configuration of its own for another suite of Debian: neither
# the sources nor the lists of the system are touched.  Signatures are checked;
# their age is not, for a mirror that lags behind is good enough to test with.
suite_apt()
{
	local suite=$1 dir
	shift
	dir=$SPF_CACHE/apt/$suite
	"$@" -o Dir::Etc::SourceList="$dir/sources.list" -o Dir::Etc::SourceParts=- \
		-o Dir::Etc::Preferences=- -o Dir::Etc::PreferencesParts=- \
		-o Dir::State::Lists="$dir/lists" -o Dir::Cache="$dir/cache" \
		-o APT::Sandbox::User=root -o Acquire::Check-Valid-Until=false -q
}

suite_update()
{
	local suite=$1 mirror dir
	dir=$SPF_CACHE/apt/$suite

	# a day-old list will do; an old one costs a 404 at worst, and then we are called with "now"
	if [ "${2:-}" != now ] && [ -n "$(find "$dir/updated" -mmin -1440 2>/dev/null)" ]; then
		return 0
	fi
	mirror=$(debian_mirror) || return 1
	mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
	printf 'deb%s [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' \
		'' "$mirror" "$suite" -src "$mirror" "$suite" >"$dir/sources.list"
	logged "$dir/update.log" suite_apt "$suite" apt-get update || return 1
	# apt-get update ends well even when it got nothing
	[ -n "$(suite_apt "$suite" apt-cache madison base-files)" ] || return 1
	touch "$dir/updated"
}

# The newest upstream version a suite has of a source package: suite_version trixie postgresql-17
suite_version()
{
	suite_apt "$1" apt-cache showsrc "$2" 2>/dev/null |
		sed -n 's/^Version: *//p' | sort -V | tail -n 1 | sed 's/^[0-9]*://; s/-[^-]*$//'
}

# Fetch a source package's upstream tarball, and print its path: suite_tarball trixie pgvector
suite_tarball()
{
	local suite=$1 pkg=$2 version dir f

	suite_update "$suite" || return 1
	version=$(suite_version "$suite" "$pkg")
	[ -n "$version" ] || { note "Debian $suite has no source package $pkg"; return 1; }
	dir=$SPF_CACHE/src/$pkg-$version
	if [ ! -d "$dir" ]; then
		rm -rf "$dir.part"
		mkdir -p "$dir.part"
		(
			cd "$dir.part"
			logged "$SPF_CACHE/log/source-$pkg" suite_apt "$suite" apt-get --download-only --only-source source "$pkg" || {
				# the list may be older than the pool
				suite_update "$suite" now &&
					logged "$SPF_CACHE/log/source-$pkg" suite_apt "$suite" apt-get --download-only --only-source source "$pkg"
			}
		) || return 1
		mv "$dir.part" "$dir"
	fi
	for f in "$dir"/*.orig.tar.*; do
		case $f in
			*.asc | *.sig) ;;
			*) printf '%s\n' "$f"; return 0 ;;
		esac
	done
	return 1
}

# ---------------------------------------------------------------- servers

# What a server's own build needs
SPF_SERVER_BUILD_PACKAGES="gcc libc6-dev make bison flex perl libreadline-dev zlib1g-dev liburing-dev pkg-config bzip2 xz-utils libipc-run-perl ccache"

# Which of Debian's suites has which server (none has 16)
server_suite()
{
	case $1 in
		15) echo bookworm ;;
		17) echo trixie ;;
		18) echo forky ;;
		*) return 1 ;;
	esac
}

# The server to take when nobody names one: Debian's own, else the newest apt has
default_server()
{
	local major
	case $(debian_version) in
		12) echo 15 ;;
		13) echo 17 ;;
		*)
			for major in 18 17 16 15; do
				if package_known "postgresql-$major"; then echo "$major"; return; fi
			done
			return 1
			;;
	esac
}

key_of() { printf '%s\n' "$*" | sha256sum | cut -c 1-10; }

# Debian's server NN here: installs it if need be, and prints its pg_config.
#
# Where its development files are not installed they are not installed by us, for
# that package brings clang and LLVM, half a gigabyte: they are unpacked into a
# copy of the server.
native_server()
{
	local major=$1 want=()

	if [ ! -x "/usr/lib/postgresql/$major/bin/postgres" ]; then
		apt_update
		if ! package_known "postgresql-$major" || ! package_known "postgresql-server-dev-$major"; then
			note "apt has no package postgresql-$major"
			return 1
		fi
		want=("postgresql-$major")
	fi
	install_packages "${want[@]}" gcc libc6-dev make libipc-run-perl || return 1
	if [ -d "/usr/include/postgresql/$major/server" ]; then
		printf '%s\n' "/usr/lib/postgresql/$major/bin/pg_config"
	else
		with_lock "native-$major" native_server_copy "$major"
	fi
}

native_server_copy()
{
	local major=$1 dir work d

	dir=$SPF_CACHE/native/$major-$(key_of "$(dpkg-query -W "postgresql-$major")")
	if [ ! -d "$dir" ]; then
		work=$SPF_CACHE/work/native-$major
		rm -rf "$work"
		mkdir -p "$work" "$(dirname "$dir")"
		system_deb "postgresql-server-dev-$major" "$work/deb" >/dev/null || return 1
		for d in /usr/lib/postgresql /usr/share/postgresql; do
			mkdir -p "$work/root$d"
			cp -a "$d/$major" "$work/root$d/$major" || return 1
		done
		dpkg -x "$work"/deb/*.deb "$work/root" || return 1
		mv "$work/root" "$dir"
		rm -rf "$work"
	fi
	printf '%s\n' "$dir/usr/lib/postgresql/$major/bin/pg_config"
}

# Download a package by the system's own sources into FOLDER, and print its path: system_deb PACKAGE FOLDER
system_deb()
{
	local version

	apt_update
	version=$(apt-cache madison "$1" | awk '$6 != "Sources" { print $3; exit }')
	[ -n "$version" ] || return 1
	mkdir -p "$2"
	(cd "$2" && logged "$2/log" apt-get -q -o APT::Sandbox::User=root download "$1=$version") || return 1
	printf '%s\n' "$2/$1_${version//:/%3a}"_*.deb
}

# What gives the server of PG_CONFIG its pgvector: nothing where it has it, else
# Debian's package, else the source, for install_vector.
vector_for()
{
	local pg_config=$1 major dir

	[ ! -e "$("$pg_config" --sharedir)/extension/vector.control" ] || return 0
	major=$(server_major "$pg_config")
	case $("$pg_config" --bindir) in
		*/usr/lib/postgresql/"$major"/bin)
			dir=$SPF_CACHE/pgvector/$major
			apt_update
			if package_known "postgresql-$major-pgvector"; then
				with_lock "pgvector-$major" system_deb "postgresql-$major-pgvector" "$dir" && return
			fi
			;;
	esac
	vector_source
}

vector_source() { suite_tarball trixie pgvector; }

server_major() { "$1" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/'; }

# A server built from a Debian source package, with assertions; prints its
# pg_config.  assert_server 17
assert_server()
{
	# shellcheck disable=SC2086
	install_packages $SPF_SERVER_BUILD_PACKAGES || return 1
	with_lock "server-$1" assert_server_locked "$1"
}

assert_server_locked()
{
	local major=$1 suite tarball version flags cflags='-O1 -g' key dir work

	suite=$(server_suite "$major") && tarball=$(suite_tarball "$suite" "postgresql-$major") || return 1
	version=$(basename "$tarball")
	version=${version#*_}
	version=${version%.orig.tar.*}

	flags="--enable-cassert --enable-debug --enable-tap-tests --without-icu"
	[ "$major" -lt 17 ] || flags="$flags --enable-injection-points"
	[ "$major" -lt 18 ] || flags="$flags --with-liburing"
	key=$(key_of "$flags $cflags $(gcc -dumpfullversion)")
	dir=$SPF_CACHE/server/$version-assert-$key
	if [ ! -x "$dir/bin/pg_config" ]; then
		note "building PostgreSQL $version with assertions (3 to 4 minutes on two idle cores)"
		work=$SPF_CACHE/work/server-$version-$key
		rm -rf "$work" "$dir"
		mkdir -p "$work/src" "$work/build" "$(dirname "$dir")"
		tar -xf "$tarball" -C "$work/src" --strip-components=1 || return 1
		(
			cd "$work/build"
			# by PATH, so that the finished server's Makefiles say plainly "gcc"
			export PATH=/usr/lib/ccache:$PATH CCACHE_DIR=$SPF_CACHE/ccache
			# shellcheck disable=SC2086
			logged "$work/configure.log" env CC=gcc CFLAGS="$cflags" "$work/src/configure" --prefix="$dir" $flags &&
				logged "$work/make.log" make -s -j"$SPF_JOBS" &&
				logged "$work/contrib.log" make -s -j"$SPF_JOBS" -C contrib &&
				logged "$work/install.log" make -s DESTDIR="$work/root" install &&
				logged "$work/install.log" make -s -C contrib DESTDIR="$work/root" install &&
				if [ "$major" -ge 17 ]; then
					logged "$work/injection.log" make -s -C src/test/modules/injection_points DESTDIR="$work/root" install
				fi
		) || return 1
		mv "$work/root$dir" "$dir"
		rm -rf "$work"
	fi
	printf '%s\n' "$dir/bin/pg_config"
}

# ---------------------------------------------------------------- chroots

# A small Debian of the suite that has server NN, with it and pgvector in it;
# prints its folder.  chroot_server 18
chroot_server()
{
	install_packages mmdebstrap || return 1
	with_lock "chroot-$1" chroot_server_locked "$1"
}

chroot_server_locked()
{
	local major=$1 suite mirror version packages key dir work vector=''

	suite=$(server_suite "$major") && suite_update "$suite" && mirror=$(debian_mirror) || return 1
	version=$(suite_apt "$suite" apt-cache madison "postgresql-$major" | awk '$6 != "Sources" { print $3; exit }')
	[ -n "$version" ] || { note "Debian $suite has no package postgresql-$major"; return 1; }
	if [ -n "$(suite_apt "$suite" apt-cache madison "postgresql-$major-pgvector")" ]; then
		vector=,postgresql-$major-pgvector
	fi
	packages="postgresql-$major$vector,libpq-dev,libipc-run-perl,make,gcc,libc6-dev"
	key=$(key_of "$packages $version")
	dir=$SPF_CACHE/chroot/$suite-$major-${version//[^0-9.a-z]/_}-$key
	if [ ! -d "$dir" ]; then
		note "making a chroot of Debian $suite with PostgreSQL $version (about a minute)"
		work=$SPF_CACHE/work/chroot-$suite-$major
		rm -rf "$work"
		mkdir -p "$work/debs" "$(dirname "$dir")"
		# no cluster "main" in there; and server-dev only unpacked, for as a package it brings clang
		# shellcheck disable=SC2016
		logged "$work/mmdebstrap.log" mmdebstrap --mode=root --variant=minbase --include="$packages" \
			--aptopt='Acquire::Check-Valid-Until "false"' --dpkgopt=force-confold --dpkgopt='path-exclude=/usr/share/man/*' \
			--essential-hook='mkdir -p "$1/etc/postgresql-common"; echo "create_main_cluster = false" >"$1/etc/postgresql-common/createcluster.conf"' \
			"$suite" "$work/root" "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" || return 1
		(cd "$work/debs" && logged "$work/server-dev.log" suite_apt "$suite" apt-get download "postgresql-server-dev-$major") || return 1
		dpkg -x "$work/debs/postgresql-server-dev-$major"_*.deb "$work/root" || return 1
		mkdir -p "$work/root/work"
		mv "$work/root" "$dir"
		rm -rf "$work"
	fi
	printf '%s\n' "$dir"
}

# Run a command as root in a chroot, with FOLDER there as /work; when we end, so
# does all that runs in it.  in_chroot CHROOT FOLDER COMMAND...
in_chroot()
{
	local chroot=$1 folder=$2
	shift 2
	# shellcheck disable=SC2016
	unshare --mount --pid --fork --kill-child --propagation private bash -euc '
		chroot=$1 folder=$2
		shift 2
		# its root a mount point, as programs in it may expect
		mount --bind "$chroot" "$chroot"
		mount --bind "$folder" "$chroot/work"
		mount -t proc proc "$chroot/proc"
		mount --rbind /dev "$chroot/dev"
		mount -t tmpfs -o mode=1777 tmpfs "$chroot/dev/shm"
		mount -t tmpfs -o mode=1777 tmpfs "$chroot/tmp"
		exec chroot "$chroot" "$@"' in_chroot "$chroot" "$folder" "$@"
}

# ---------------------------------------------------------------- private servers

# Test and trial servers run from a copy of the server's programs, into which
# pgvector and spfresh are installed: PostgreSQL finds its files relative to its
# programs.  So nothing under /usr changes, and a server that is at work there
# never meets our library.

# The commands of such a server are run by this: the user postgres when we are
# root (initdb refuses root), else ourselves; with a clean environment.
as_server_user()
{
	local drop=()
	if [ "$(id -u)" = 0 ]; then
		drop=(setpriv --reuid=postgres --regid=postgres --init-groups)
	fi
	"${drop[@]}" env -i HOME="${SPF_HOME:-/tmp}" PATH=/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8 LC_ALL=C.UTF-8 "$@"
}

own() { [ "$(id -u)" != 0 ] || chown -R postgres:postgres "$@"; }

# Copy the server of PG_CONFIG beneath FOLDER, and print the copy's pg_config.
private_server()
{
	local pg_config=$1 folder=$2 d

	for d in "$("$pg_config" --bindir)" "$("$pg_config" --pkglibdir)" "$("$pg_config" --sharedir)"; do
		mkdir -p "$folder$(dirname "$d")"
		cp -a "$d" "$folder$d" || return 1
	done
	# pgvector installs headers, too
	d=$("$pg_config" --includedir-server)
	mkdir -p "$folder$(dirname "$d")"
	cp -a "$d" "$folder$d" || return 1
	ln -s "$("$pg_config" --pkgincludedir)/internal" "$folder$("$pg_config" --pkgincludedir)/internal"
	# an installed spfresh is not the one that is wanted here
	rm -f "$folder$("$pg_config" --pkglibdir)"/spfresh.so "$folder$("$pg_config" --sharedir)"/extension/spfresh[.-]*
	own "$folder"
	printf '%s\n' "$folder$("$pg_config" --bindir)/pg_config"
}

# Give the private server of PG_CONFIG its pgvector, unless it has it: from a
# Debian package or by building it from its tarball in FOLDER.
install_vector()
{
	local pg_config=$1 vector=$2 folder=$3 bindir

	[ ! -e "$("$pg_config" --sharedir)/extension/vector.control" ] || return 0
	case $vector in
		'')
			fail "this server has no pgvector, and there is no source of it" "install the package postgresql-NN-pgvector"
			;;
		*.deb)
			bindir=$("$pg_config" --bindir)
			dpkg -x "$vector" "${bindir%/usr/lib/postgresql/*}" || return 1
			own "${bindir%/usr/lib/postgresql/*}"
			;;
		*)
			mkdir -p "$folder"
			tar -xf "$vector" -C "$folder" --strip-components=1 || return 1
			if [ "$(server_major "$pg_config")" -ge 18 ]; then
				# pgvector 0.8.0 came before 18 and what changed in it
				sed -i -e 's/vacuum_delay_point()/vacuum_delay_point(false)/' \
					-e 's/tupdesc->attrs\[0\]\./TupleDescAttr(buildstate->tupdesc, 0)->/; s/buildstate->TupleDescAttr/TupleDescAttr/' \
					"$folder"/src/*.c
			fi
			own "$folder"
			# OPTFLAGS: for any processor; its distance functions choose theirs at run time
			logged "$folder.log" as_server_user make -s -j"$SPF_JOBS" -C "$folder" PG_CONFIG="$pg_config" with_llvm=no OPTFLAGS= &&
				logged "$folder.log" as_server_user make -s -C "$folder" PG_CONFIG="$pg_config" with_llvm=no install
			;;
	esac
}

# Copy the sources at $1 to folder $2, without what git or a build left there.
copy_sources()
{
	mkdir -p "$2"
	tar -C "$1" --exclude=./.git --exclude='*.o' --exclude='*.so' --exclude='*.bc' --exclude=./check-numbers.dir \
		--exclude=./tmp_check --exclude=./tmp_check_iso --exclude=./results --exclude=./output_iso -cf - . | tar -C "$2" -xf -
}

# Build and install spfresh from SOURCES, in an empty FOLDER, into the server of PG_CONFIG.
# install_spfresh SOURCES FOLDER PG_CONFIG [make's variables...]
install_spfresh()
{
	local sources=$1 folder=$2 pg_config=$3 m
	shift 3
	m=(make -C "$folder" -f "$sources/Makefile" VPATH="$sources" PG_CONFIG="$pg_config" "$@")
	mkdir -p "$folder"
	own "$folder"
	logged "$folder.log" as_server_user "${m[@]}" -s -j"$SPF_JOBS" all &&
		logged "$folder.install.log" as_server_user "${m[@]}" -s install
}

# Stop every server whose data folder lies beneath the folder given: what a test
# that was cut off left running.  Nobody else's, whatever happens.
stop_servers_beneath()
{
	local f pid tries

	find "$1" -name postmaster.pid 2>/dev/null | while IFS= read -r f; do
		pid=$(head -n 1 "$f" 2>/dev/null) || continue
		case $pid in
			'' | *[!0-9]*) continue ;;
		esac
		# the pid may be somebody else's by now: a postmaster works in its data folder
		[ "$(readlink "/proc/$pid/cwd" 2>/dev/null)" = "$(cd "$(dirname "$f")" && pwd -P)" ] || continue
		kill -QUIT "$pid" 2>/dev/null || continue
		for ((tries = 0; tries < 100; tries++)); do
			[ -e "/proc/$pid" ] || break
			sleep 0.1
		done
	done
}
