# SPDX-License-Identifier: Apache-2.0
# Completion of the weft command in bash; zsh reads it after `autoload -U bashcompinit && bashcompinit`.
#
# The words stand in the help texts, so what is offered here is never out of date.

# The subcommands, one a line.
_weft_subcommands() {
  "$1" --help 2>/dev/null | sed -n '/^Subcommands:/,/^$/s/^  \([a-z][a-z-]*\) .*/\1/p'
}

# The options of a subcommand, one a line: -p,--pid PID is two.
_weft_options() {
  "$1" "$2" --help 2>/dev/null | sed -n 's/^  \(-[-a-zA-Z0-9,]*\).*/\1/p' | tr ',' '\n'
}

# The processes that run weft, as far as we may look at them.
_weft_pids() {
  find /proc -maxdepth 3 -path '/proc/[0-9]*/fd/*' -lname '/memfd:weft-export*' 2>/dev/null | cut -d/ -f3 | sort -un
}

# Whether the words before the current one end the command's own: after --, or the first that is no option.
_weft_program_at() {
  local i
  for ((i = 2; i < COMP_CWORD; ++i)); do
    [[ ${COMP_WORDS[i]} == -- ]] && echo $((i + 1)) && return
  done
}

_weft() {
  local command=${COMP_WORDS[0]} subcommand=${COMP_WORDS[1]} word=${COMP_WORDS[COMP_CWORD]}
  local before=${COMP_WORDS[COMP_CWORD - 1]} program
  COMPREPLY=()
  if ((COMP_CWORD == 1)); then
    mapfile -t COMPREPLY < <(compgen -W "$(_weft_subcommands "$command") --help --version" -- "$word")
    return
  fi
  program=$(_weft_program_at)
  if [[ -n $program ]]; then
    if ((COMP_CWORD == program)); then
      mapfile -t COMPREPLY < <(compgen -c -- "$word")
    else
      mapfile -t COMPREPLY < <(compgen -f -- "$word")
    fi
    return
  fi
  case $before in
    -p | --pid | --live) mapfile -t COMPREPLY < <(compgen -W "$(_weft_pids)" -- "$word") ;;
    --user) mapfile -t COMPREPLY < <(compgen -u -- "$word") ;;
    *)
      if [[ $word == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(_weft_options "$command" "$subcommand")" -- "$word")
      else
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
      fi
      ;;
  esac
}

complete -o filenames -F _weft weft
