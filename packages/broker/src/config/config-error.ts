/** The configuration cannot be used. Nothing was started. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly code = 'SHOAL_CONFIG_INVALID';
  /** One line each: the setting, where its value came from, and what is wrong. Never the value. */
  readonly problems: readonly string[];
  constructor(problems: readonly string[]) {
    super(problems.join('; '));
    this.problems = problems;
  }
}
