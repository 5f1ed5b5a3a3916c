#!/bin/sh
# curl asks a service that runs: see README.md.
set -eu
base=${BASE_URL:-http://localhost:8080/v1}
key=${API_KEY:-none}
model=${MODEL:-$(curl -fsS "$base/models" -H "Authorization: Bearer $key" | sed 's/.*"id":"\([^"]*\)".*/\1/')}

ask() { # path, body, further options
  path=$1 body=$2
  shift 2
  curl -sS "$@" "$base/$path" -H 'Content-Type: application/json' -H "Authorization: Bearer $key" -d "$body"
}

must() { # what, text, pattern
  if printf '%s' "$2" | grep -q -- "$3"; then
    echo "ok: $1"
  else
    echo "not ok: $1: no $3 in: $2" >&2
    exit 1
  fi
}

must 'models' "$(curl -fsS "$base/models" -H "Authorization: Bearer $key")" '"object":"model"'
must 'an answer' "$(ask chat/completions "{\"model\": \"$model\", \"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}], \"max_tokens\": 4}")" '"finish_reason":"'
stream=$(ask chat/completions "{\"model\": \"$model\", \"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}], \"max_tokens\": 4, \"stream\": true}" -N)
must 'a stream begins' "$stream" '^data: {.*"role":"assistant"'
must 'a stream ends' "$stream" '^data: \[DONE\]$'
must 'a text' "$(ask completions "{\"model\": \"$model\", \"prompt\": \"One two\", \"max_tokens\": 4}")" '"object":"text_completion"'
must 'a wrong field' "$(ask chat/completions "{\"model\": \"$model\", \"mesages\": []}" -w ' %{http_code}')" '"param":"mesages".* 400$'
must 'another model' "$(ask chat/completions '{"model": "nobody", "messages": [{"role": "user", "content": "Hi"}]}' -w ' %{http_code}')" 'model_not_found.* 404$'
must 'another type' "$(ask chat/completions '{}' -H 'Content-Type: text/plain' -w ' %{http_code}')" 'unsupported_content_type.* 415$'
