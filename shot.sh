timeout 100 taskset -c 1 chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --window-size=${3:-1100},${4:-12000} --screenshot=$2 file://$1 2>&1 | tail -1
