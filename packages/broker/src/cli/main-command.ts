import { ConfigError } from '../config/config-error.ts';
import { checkConfigFile } from '../config/load-config.ts';
import { VERSION } from '../version.ts';
import { PUB_HELP, SUB_HELP } from './client-options.ts';
import { CLUSTER_HELP, clusterCommand } from './cluster-command.ts';
import { pubCommand } from './pub-command.ts';
import { START_HELP, startCommand } from './start-command.ts';
import { subCommand } from './sub-command.ts';
import { ExitCode } from './terminal.ts';
import type { Terminal } from './terminal.ts';

const HELP = `Usage: shoal COMMAND

  start               run a broker
  pub                 publish messages, as mosquitto_pub does
  sub                 subscribe and print messages, as mosquitto_sub does
  cluster status      nodes, Redis and warnings of a running cluster
  cluster explain T   where a message to topic T would go, and why
  config check FILE   say everything that is wrong with a configuration file

  --version           print the version
  --help              print this; after a command: about that command
`;

const CONFIG_HELP = `Usage: shoal config check FILE

Checks a configuration file and prints each problem on a line of its own.
Exit code 0: the file can be used; 2: it cannot.
`;

/**
 * The `shoal` command. Resolves with the exit code: 0, 1 (failed while running), 2 (wrong usage or configuration);
 * `pub` and `sub` end like mosquitto_pub and mosquitto_sub.
 */
export async function mainCommand(argv: readonly string[], terminal: Terminal): Promise<number> {
  const [command, ...rest] = argv;
  // After pub and sub `-h` is the host.
  const wantsHelp =
    rest.includes('--help') || (rest.includes('-h') && command !== 'pub' && command !== 'sub');
  switch (command) {
    case 'start':
      return wantsHelp ? print(terminal, START_HELP) : startCommand(rest, terminal);
    case 'pub':
      return pubCommand(rest, terminal);
    case 'sub':
      return subCommand(rest, terminal);
    case 'cluster':
      return wantsHelp ? print(terminal, CLUSTER_HELP) : clusterCommand(rest, terminal);
    case 'config':
      return wantsHelp ? print(terminal, CONFIG_HELP) : configCommand(rest, terminal);
    case 'help':
      return help(rest[0], terminal);
    case '--help':
    case '-h':
      return print(terminal, HELP);
    case '--version':
      return print(terminal, `shoal ${VERSION}\n`);
    case undefined:
      terminal.stderr.write(HELP);
      return ExitCode.Usage;
    default:
      terminal.stderr.write(`shoal: unknown command '${command}'; see shoal --help\n`);
      return ExitCode.Usage;
  }
}

function help(command: string | undefined, terminal: Terminal): number {
  switch (command) {
    case 'start':
      return print(terminal, START_HELP);
    case 'pub':
      return print(terminal, PUB_HELP);
    case 'sub':
      return print(terminal, SUB_HELP);
    case 'cluster':
      return print(terminal, CLUSTER_HELP);
    case 'config':
      return print(terminal, CONFIG_HELP);
    default:
      return print(terminal, HELP);
  }
}

function configCommand([verb, file, ...rest]: readonly string[], terminal: Terminal): number {
  if (verb !== 'check' || file === undefined || rest.length > 0) {
    terminal.stderr.write('shoal: usage is shoal config check FILE\n');
    return ExitCode.Usage;
  }
  try {
    checkConfigFile(file, (path) => terminal.readFile(path));
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    for (const problem of error.problems) terminal.stderr.write(`shoal: ${problem}\n`);
    return ExitCode.Usage;
  }
  return print(terminal, `${file}: ok\n`);
}

function print({ stdout }: Terminal, text: string): number {
  stdout.write(text);
  return ExitCode.Ok;
}
