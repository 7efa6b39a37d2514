/** The page's style. Colours of roles are Okabe and Ito's, which those who see fewer colours can tell apart. */
export const STYLE = `
:root {
  color-scheme: light dark;
  --paper: #ffffff; --ink: #1a1a1a; --faint: #666666; --line: #c8c8c8; --band: #fff3c4;
  --follower: #0072b2; --candidate: #e69f00; --leader: #009e73; --fenced: #d55e00; --paused: #8c8c8c; --down: #8c8c8c; --unknown: #8c8c8c;
  --phase1: #b0458a; --phase2: #3a3a3a; --other: #9a9a9a; --write: #7a5c00; --violation: #d0021b;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #16181c; --ink: #e8e8e8; --faint: #a0a0a0; --line: #44484f; --band: #3d3a20;
    --follower: #56b4e9; --candidate: #f0b429; --leader: #1fc796; --fenced: #ff7b2e; --paused: #8f8f8f; --down: #8f8f8f; --unknown: #8f8f8f;
    --phase1: #e08ac4; --phase2: #d0d0d0; --other: #777777; --write: #c9a227; --violation: #ff4d5e;
  }
}
* { box-sizing: border-box; }
html, body { height: 100%; margin: 0; }
body { display: flex; flex-direction: column; background: var(--paper); color: var(--ink); font: 13px/1.4 system-ui, sans-serif; }
header { padding: 6px 10px; border-bottom: 1px solid var(--line); }
h1 { display: inline; font-size: 15px; margin-right: 12px; }
h2 { font-size: 14px; margin: 2px 0 8px; overflow-wrap: anywhere; }
h2.violation { color: var(--violation); }
h3 { font-size: 12px; margin: 12px 0 4px; color: var(--faint); }
p { margin: 2px 0; }
.bar { display: flex; flex-wrap: wrap; gap: 6px 10px; align-items: center; margin-top: 4px; }
.bar details { position: relative; }
.bar summary { cursor: pointer; }
.choice { position: absolute; z-index: 1; max-height: 70vh; overflow: auto; background: var(--paper); border: 1px solid var(--line); padding: 6px 10px; min-width: 15em; }
.choice.wide { width: 40em; max-width: 60vw; }
.choice label { display: block; white-space: nowrap; }
main { flex: 1; min-height: 0; display: flex; }
#scroll { flex: 1; min-width: 0; overflow: auto; }
#scroll:focus-visible { outline: 2px solid var(--follower); outline-offset: -2px; }
#canvas { position: sticky; top: 0; display: block; }
#panel { width: 440px; overflow: auto; padding: 6px 10px; border-left: 1px solid var(--line); }
pre { margin: 4px 0; white-space: pre-wrap; overflow-wrap: anywhere; font-size: 12px; }
table { border-collapse: collapse; font-size: 12px; }
th, td { padding: 0 6px 0 3px; border-left: 3px solid transparent; text-align: left; white-space: nowrap; }
th { font-weight: normal; color: var(--faint); }
th.own, td.own { background: var(--band); }
td.new { font-weight: bold; }
td.role-follower { border-left-color: var(--follower); } td.role-candidate { border-left-color: var(--candidate); } td.role-leader { border-left-color: var(--leader); }
td.role-fenced { border-left-color: var(--fenced); } td.role-paused, td.role-down { border-left-color: var(--down); }
button { font: inherit; color: inherit; }
button.link { all: unset; cursor: pointer; }
button.link:hover { text-decoration: underline; }
button.link:focus-visible { outline: 2px solid var(--follower); }
.ends button.link { text-decoration: underline; margin-right: 8px; }
ol.around { list-style: none; margin: 0; padding: 0; font-size: 12px; }
ol.around li { white-space: pre; overflow: hidden; text-overflow: ellipsis; }
ol.around li.here { background: var(--band); }
#violation { color: var(--violation); background: none; border: 1px solid; border-radius: 4px; font-weight: bold; cursor: pointer; }
#violation[hidden] { display: none; }
.key { display: inline-block; width: 22px; height: 0; border-top: 4px solid; vertical-align: middle; }
kbd { border: 1px solid var(--line); border-radius: 3px; padding: 0 4px; font: inherit; }
.quiet { position: absolute; left: -9999px; }
@media (max-width: 900px) { main { flex-direction: column; } #panel { width: auto; height: 40%; border-left: 0; border-top: 1px solid var(--line); } }
`;
