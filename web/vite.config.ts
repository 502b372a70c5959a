import { defineConfig } from "vitest/config";

// `npm run dev` serves the page from its sources and hands /api to a server started by hand:
//   cvm-monai annotate DIR --no_browser --port 8765, then open the address that it prints with this page's port.
export default defineConfig({
  base: "/",
  build: {
    outDir: "../cvm_monai/annotate/page",
    emptyOutDir: true,
    license: { fileName: "assets/licenses.md" }, // of what is built in
    assetsInlineLimit: 0, // nothing inline: the server's content security policy forbids it
    chunkSizeWarningLimit: 700,
  },
  server: { proxy: { "/api": "http://127.0.0.1:8765" } },
  test: { environment: "happy-dom", include: ["tests/**/*.test.ts"] },
});
