#!/bin/sh
# A random walk of so many steps of one size, drawn from the seed: its distance from zero is the made-up metric.
steps=$1 size=$2 seed=$3
awk -v steps="$steps" -v size="$size" -v seed="$seed" 'BEGIN {
  srand(seed)
  for (step = 1; step <= steps; step++) {
    place += (rand() < 0.5 ? -size : size)
    if (step % 25 == 0) printf "{\"step\": %d, \"metrics\": {\"distance\": %g}}\n", step, place < 0 ? -place : place
  }
  printf "{\"metrics\": {\"distance\": %g}}\n", place < 0 ? -place : place
}'
