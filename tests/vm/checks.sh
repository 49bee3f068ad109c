# Runs in the VM of tests/vm.rs: `checks.sh PART`. A line `ok NAME` or `not ok NAME: what` for each check.
export KENNEL_RUNTIMES=$PWD/runtimes HOME=/root
kennel=$PWD/kennel

# check NAME EXPECTED COMMAND…: the command's exit status and output, as `STATUS OUTPUT`, match the pattern.
check() {
  name=$1 expected=$2
  shift 2
  got=$("$@" 2>&1)
  got="$? $got"
  case "$got" in
    $expected) echo "ok $name" ;;
    *) echo "not ok $name: wanted $expected, got $got" ;;
  esac
}

no_groups_left() {
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    left=$(find /sys/fs/cgroup -name 'kennel-[0-9]*')
    [ -z "$left" ] && return 0
    sleep 1
  done
  echo "$left"
  return 1
}

short() {
  check "doctor is content" "0 *cgroups*v2*gives Kennel's sandbox in full*" $kennel doctor
  check "exec" "0 uid=993*" $kennel exec -- id
  check "memory is limited" "137 *out of memory*128 MB*" $kennel exec --memory 128 -- python3 -c 'x = b"x" * (300 << 20)'
  check "invoke" '0 *"hello": "Ada"*' $kennel invoke hello.zip --runtime python3.11 --handler app.handler --event '{"name":"Ada"}'
  check "no group is left" "0 *" no_groups_left
}

case $1 in
short) short ;;
v2)
  short
  check "processes are limited" "2 *Cannot fork*" $kennel exec --pids 8 -- sh -c 'for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1 & done; true'
  # The VM's folders are in memory; this one is the host's disk.
  truncate -s 2G disk && mkfs.ext4 -q -F disk && mount -o loop disk /var/tmp || echo "not ok a disk for /var/tmp"
  check "400 MiB in /tmp of 128 MB" "0 *" $kennel exec --memory 128 -- dd if=/dev/zero of=/tmp/x bs=1M count=400
  check "a full /tmp" "1 *No space left*" $kennel exec --memory 128 --tmp 64 -- dd if=/dev/zero of=/tmp/x bs=1M count=400
  check "the CPU share" "0 *" $kennel exec --memory 128 -- python3 -c '
import time
wall = time.monotonic() + 4
cpu = time.process_time()
while time.monotonic() < wall: pass
share = (time.process_time() - cpu) / 4
assert 0.02 < share < 0.3, share'
  check "a limit on time kills all" "124 *" $kennel exec --timeout 3 -- sh -c '(setsid sleep 6543 &) ; sleep 6543'
  check "and nothing of it lives" "1 " pgrep -f 'sleep 6543'
  # From a group with processes that is not the root, as a shell's or a service's is.
  mkdir /sys/fs/cgroup/service && echo $$ >/sys/fs/cgroup/service/cgroup.procs
  check "exec from a service's group" "0 uid=993*" $kennel exec -- id
  check "invoke from a service's group" '0 *"hello": "Ada"*' $kennel invoke hello.zip --runtime python3.11 --handler app.handler --event '{"name":"Ada"}'
  # Where nothing above can be used, Kennel moves to a leaf of its own group: here alone in it.
  mkdir /sys/fs/cgroup/alone
  check "alone in a delegated group" "0 uid=993*" sh -c 'echo $$ >/sys/fs/cgroup/alone/cgroup.procs; exec "$0" exec -- id' $kennel
  check "no group is left after all" "0 *" no_groups_left
  ;;
no-landlock)
  check "refused by name" "3 *landlock*" $kennel exec -- id
  check "allowed by name" "0 uid=993*" $kennel exec --allow-degraded landlock -- id
  check "doctor says so" "3 *BAD*landlock*" $kennel doctor
  ;;
esac
