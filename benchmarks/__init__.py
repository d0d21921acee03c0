"""The benchmarks: onecopy next to its peers, in the same run. See README.md in this folder."""
