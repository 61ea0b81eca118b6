#!/usr/bin/env node
// In the repository, and executable, before anything is built: npm links commands when it installs.
import '../dist/main.js';
