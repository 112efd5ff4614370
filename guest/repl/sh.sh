# SPDX-License-Identifier: Apache-2.0
# A timeout comes as SIGINT: leave the code, not the shell.
trap 'return 130' INT
printf '0 0 0\n' >&9
