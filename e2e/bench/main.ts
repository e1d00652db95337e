/** `npm run bench -- NAME`: numbers, side by side with other implementations in the same run. */
const [name] = process.argv.slice(2)

if (name !== 'throughput') {
  process.stderr.write('bench: name what to measure: throughput\n')
  process.exitCode = 2
}
