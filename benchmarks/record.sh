#!/usr/bin/env bash
# Runs the benchmark cases and leaves them in benchmarks/results/, with the
# machine they ran on. Run it on an idle machine: all of it takes hours, a part
# by itself less.
#   benchmarks/record.sh [RUNS] [PART...]   3 runs of every case, all parts
# Parts: psi (every protocol, size and link), psi-csv (CSV in and out, a process
# for each party, warm caches), statistics (tables of several parties, and the
# building blocks under them), fl, credit (default_credit between two nodes),
# demo. TINY=1 takes small sizes, to see whether the script works; OUT is
# another folder than benchmarks/results.
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-3}
parts=${*:2}
parts=${parts:-psi psi-csv statistics fl credit demo}
out=${OUT:-benchmarks/results}
small=2^12..2^20 large=2^22,10M,2^24 csv=2^20,10M multi=2^18 server=10M client=10k limit=20m logit=30000 counters=4096 rows=1M
if [ -n "${TINY:-}" ]; then
	small=2^6..2^8 large=2^9 csv=2^8 multi=2^7 server=4096 client=16 limit=1m logit=300 counters=64 rows=10k
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"
# The program says which commit it is of, and whether with changes.
GOFLAGS='' CGO_ENABLED=0 go build -buildvcs=auto -trimpath -ldflags '-s -w' -o "$work/yinqiao" ./cmd/yinqiao
bin=$work/yinqiao

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
	echo "  \"parties\": \"all in one process, except in default_credit and where a report says processes\""
	echo "}"
} >"$out/machine.json"

# case NAME JOB N NET FLAG...
case_() {
	: >"$out/$1.jsonl"
	for _ in $(seq "$runs"); do
		"$bin" bench run "$2" --n "$3" --net "$4" --json "${@:5}" | tee -a "$out/$1.jsonl"
	done
}

# sweep NAME FLAG...: one sweep of the psi family. A case that fails is a line
# of the table, and what else there is to record goes on.
failed=
sweep() {
	"$bin" bench sweep psi --runs "$runs" --limit "$limit" --out "$work/$1" "${@:2}" || failed="$failed $1"
}

psi() {
	sweep all --protocols all --sizes "$small" --net none,lan,wan
	sweep large --protocols rr22 --sizes "$large" --net none,lan,wan
	"$bin" bench report "$work/all" "$work/large" --out "$out/psi"
}

psi-csv() {
	sweep csv --protocols rr22 --sizes "$csv" --net none --csv --processes --no-yardstick
	sweep memory --protocols rr22,ecdh --sizes "${csv%%,*}" --net none --processes --no-yardstick
	local made=("$work/csv" "$work/memory")
	if "$bin" job kinds | grep -q '^psi\.multi\.v1 '; then
		sweep multi --protocols multi --sizes "$multi" --net none --processes --no-yardstick
		sweep multi-csv --protocols multi --sizes "$multi" --net none --csv --processes --no-yardstick
		made+=("$work/multi" "$work/multi-csv")
	fi
	if "$bin" job kinds | grep -q '^psi\.oprf\.v1 '; then
		sweep oprf --protocols oprf --sizes "$server" --m "$client" --net none,lan,wan --warm
		sweep oprf-csv --protocols oprf --sizes "$server" --m "$client" --net none --warm --csv --processes --no-yardstick
		made+=("$work/oprf" "$work/oprf-csv")
	fi
	"$bin" bench report "${made[@]}" --out "$out/psi-csv"
}

# Tables of three parties; and the blocks under them, by Go's own benchmarks:
# encryption beside Paillier's, one addition, one client among ten.
statistics() {
	mkdir -p "$out/statistics"
	cp "$out/machine.json" "$out/statistics/" # of the commit that these are of
	for job in mpc.aggregate.v1 mpc.secagg.v1; do
		local name=statistics/${job#mpc.}
		name=${name%.v1}
		for net in none lan wan; do
			case_ "$name-$counters-$net" "$job" "$counters" "$net" --parties 3 --no-yardstick
		done
		case_ "$name-$rows-400x8-csv" "$job" "$rows" none --cells 400 --measures 8 --csv --processes --no-yardstick
	done
	go test ./mpc/he/tbgv -run '^$' -bench 'Encrypt|Paillier' -cpu 1 -count "$runs" >"$out/statistics/encryption.txt"
	go test ./mpc/hesum -run '^$' -bench Sum -count "$runs" >"$out/statistics/hesum.txt"
	go test ./mpc/secagg -run '^$' -bench 'Client|KeyStream' -count "$runs" >"$out/statistics/secagg.txt"
}

fl() {
	for net in none lan wan; do
		case_ "fl-logit-$logit-$net" fl.logit.v1 "$logit" "$net"
	done
}

# default_credit between two nodes in processes of their own: the report, and
# what each process cost from its start to its end.
credit() {
	local data=../shared/data/default_credit/default_credit_hetero_guest.csv
	if [ ! -f "$data" ]; then
		echo "default_credit is not here ($data): skipped"
		return
	fi
	: >"$out/default-credit.jsonl"
	for _ in $(seq "$runs"); do
		local keep
		keep=$(mktemp -d)
		"$bin" scenario run benchmarks/default_credit --keep "$keep/run" --json >"$keep/report.json"
		printf '{"report": %s, "usage": %s}\n' "$(cat "$keep/report.json")" "$(tr -d '\n' <"$keep/run/usage.json")" | tee -a "$out/default-credit.jsonl"
		rm -rf "$keep"
	done
	go test ./fl/logit -count=1 -run DefaultCredit -v | grep -vE '^(=== RUN|PASS)' >"$out/default-credit-accuracy.txt"
}

# The demo after the build.
demo() {
	: >"$out/demo.jsonl"
	for _ in $(seq "$runs"); do
		local began
		began=$(date +%s.%N)
		"$bin" scenario run examples/credit --json >"$work/demo.json"
		printf '{"seconds_in_all": %.1f, "report": %s}\n' "$(echo "$(date +%s.%N) - $began" | bc)" "$(cat "$work/demo.json")" | tee -a "$out/demo.jsonl"
	done
}

for part in $parts; do
	case $part in
	psi | psi-csv | statistics | fl | credit | demo) "$part" ;;
	*)
		echo "no part $part: psi, psi-csv, statistics, fl, credit, demo" >&2
		exit 2
		;;
	esac
done
if [ -n "$failed" ]; then
	echo "cases failed in:$failed" >&2
	exit 1
fi
