#!/usr/bin/env bash
# Runs the benchmark cases and leaves one JSON object a run in
# benchmarks/results/, with the machine they ran on. Run it on an idle machine.
#   benchmarks/record.sh [RUNS]      default: 3 runs of every case
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-3}
out=benchmarks/results
mkdir -p "$out"
make --no-print-directory build
bin=bin/yinqiao

{
	echo "{"
	echo "  \"cpu\": \"$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)\","
	echo "  \"flags\": \"$(grep -m1 '^flags' /proc/cpuinfo | tr ' ' '\n' | grep -xE 'aes|avx2|avx512f|avx512ifma|vaes|pclmulqdq' | sort | tr '\n' ' ' | sed 's/ $//')\","
	echo "  \"cores\": $(nproc),"
	echo "  \"memory_kib\": $(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo),"
	echo "  \"kernel\": \"$(uname -sr)\","
	echo "  \"go\": \"$(go env GOVERSION)\","
	echo "  \"binary_bytes\": $(stat -c %s "$bin"),"
	echo "  \"commit\": \"$(git rev-parse --short HEAD)\","
	echo "  \"date\": \"$(date -u +%F)\","
	echo "  \"links\": {\"lan\": \"1 Gbit/s, 0.5 ms round trip\", \"wan\": \"100 Mbit/s, 20 ms round trip\", \"shaped\": \"in user space, gRPC with TLS 1.3\"},"
	echo "  \"parties\": \"all in one process, except in default_credit\""
	echo "}"
} >"$out/machine.json"

# case NAME JOB N NET
case_() {
	: >"$out/$1.jsonl"
	for _ in $(seq "$runs"); do
		"$bin" bench run "$2" --n "$3" --net "$4" --json | tee -a "$out/$1.jsonl"
	done
}

case_ psi-ecdh-2e10-none psi.ecdh.v1 1024 none
case_ psi-ecdh-2e16-none psi.ecdh.v1 65536 none
case_ psi-ecdh-2e16-lan psi.ecdh.v1 65536 lan
case_ psi-ecdh-2e16-wan psi.ecdh.v1 65536 wan
case_ psi-ecdh-2e20-none psi.ecdh.v1 1048576 none
case_ psi-rr22-2e16-none psi.rr22.v1 65536 none
case_ psi-rr22-2e20-none psi.rr22.v1 1048576 none
case_ psi-rr22-2e20-lan psi.rr22.v1 1048576 lan
case_ psi-rr22-2e20-wan psi.rr22.v1 1048576 wan
case_ psi-cardinality-2e16-none psi.cardinality.v1 65536 none
case_ fl-logit-30000-none fl.logit.v1 30000 none
case_ fl-logit-30000-lan fl.logit.v1 30000 lan
case_ fl-logit-30000-wan fl.logit.v1 30000 wan

# default_credit between two nodes in processes of their own: the report, and
# what each process cost from its start to its end.
data=../shared/data/default_credit/default_credit_hetero_guest.csv
if [ -f "$data" ]; then
	: >"$out/default-credit.jsonl"
	for _ in $(seq "$runs"); do
		keep=$(mktemp -d)
		"$bin" scenario run benchmarks/default_credit --keep "$keep/run" --json >"$keep/report.json"
		printf '{"report": %s, "usage": %s}\n' "$(cat "$keep/report.json")" "$(tr -d '\n' <"$keep/run/usage.json")" | tee -a "$out/default-credit.jsonl"
		rm -rf "$keep"
	done
	go test ./fl/logit -count=1 -run DefaultCredit -v | grep -vE '^(=== RUN|PASS)' >"$out/default-credit-accuracy.txt"
else
	echo "default_credit is not here ($data): skipped"
fi

# The demo after the build.
: >"$out/demo.jsonl"
for _ in $(seq "$runs"); do
	began=$(date +%s.%N)
	"$bin" scenario run examples/credit --json >/tmp/demo.$$
	printf '{"seconds_in_all": %.1f, "report": %s}\n' "$(echo "$(date +%s.%N) - $began" | bc)" "$(cat /tmp/demo.$$)" | tee -a "$out/demo.jsonl"
	rm -f /tmp/demo.$$
done
