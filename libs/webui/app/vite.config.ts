import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { defineConfig, type Plugin } from 'vite';

// The files that decide what is built, in the order of their names.
function sources(dir: string): string[] {
  return readdirSync(dir, { withFileTypes: true })
    .flatMap((e) => (e.isDirectory() ? sources(join(dir, e.name)) : [join(dir, e.name)]))
    .sort();
}

// Beside the build lies the checksum of what it was made of: a Go test compares it with the sources, so that
// nobody forgets to build, and no check needs Node.
function recordSources(): Plugin {
  return {
    name: 'record-sources',
    apply: 'build',
    closeBundle() {
      const sum = createHash('sha256');
      const names = [...sources('public'), ...sources('src'), 'index.html', 'package-lock.json', 'package.json', 'tsconfig.json', 'vite.config.ts'];
      for (const name of names) {
        sum.update(name + '\0').update(readFileSync(name)).update('\0');
      }
      writeFileSync('../dist/sources.sha256', sum.digest('hex') + '\n');
    },
  };
}

// The licenses of all packages that the build holds parts of go along with it.
function recordLicenses(): Plugin {
  return {
    name: 'record-licenses',
    apply: 'build',
    generateBundle(_, bundle) {
      const packages = new Set<string>();
      for (const chunk of Object.values(bundle)) {
        for (const id of chunk.type === 'chunk' ? chunk.moduleIds : []) {
          const m = /^(.*\/node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(id.replace('\0', ''));
          if (m?.[1]) {
            packages.add(m[1]);
          }
        }
      }
      const texts = [...packages].sort().map((dir) => {
        const { name, version, license } = JSON.parse(readFileSync(join(dir, 'package.json'), 'utf8')) as Record<string, string>;
        const file = readdirSync(dir).find((f) => /^licen[cs]e/i.test(f));
        return `${name} ${version} (${license})\n\n${file ? readFileSync(join(dir, file), 'utf8').trim() : ''}\n`;
      });
      this.emitFile({ type: 'asset', fileName: 'static/licenses.txt', source: texts.join('\n' + '-'.repeat(80) + '\n\n') });
    },
  };
}

export default defineConfig({
  // Everything is relative: pages do not know under which prefix they are served.
  base: './',
  plugins: [recordLicenses(), recordSources()],
  esbuild: { jsx: 'automatic', legalComments: 'none' },
  build: {
    outDir: '../dist',
    emptyOutDir: true,
    assetsDir: 'static',
    assetsInlineLimit: 0,
    cssCodeSplit: false,
    modulePreload: { polyfill: false },
    target: 'es2022',
    chunkSizeWarningLimit: 900,
  },
  test: { include: ['src/**/*.test.ts'] },
} as Parameters<typeof defineConfig>[0]);
