# Sourced first by every script, which then answers --help: help.sh
# With --help or -h before "--", prints the comment at the top of the script that was called, and of the files that MORE_HELP
# names, and ends. The first line of such a comment ends with the script's name and its arguments, behind a colon.
comment() { sed -n '/^#!/d; /^#/!q; /^#SBATCH/d; s/^# \{0,1\}//p' "$1"; }
for word in "$@"; do
    case "$word" in
    --) break ;;
    -h | --help)
        comment "$0" | sed -n "1s|^\(.*\): \([^:]*\)\($(basename "$0").*\)|usage: \2bash $(dirname "$0")/\3\n\1|p; 2,\$p"
        for file in ${MORE_HELP:-}; do [ "$file" = "$0" ] || { echo; comment "$file"; }; done
        exit 0
        ;;
    esac
done
