/** Entry point: draws the page, and connects its controls. */
import { onColorSchemeChange } from "./charts.js";
import { inputById, selectById } from "./dom.js";
import { drawFrontiers } from "./frontiers.js";
import { drawHeader, drawScopeNote, fillScopes } from "./header.js";
import { drawQuestions, initQuestions } from "./questions.js";
import { drawRows } from "./rows.js";
import { drawSchedule } from "./schedule.js";
import { selectedScope, state } from "./state.js";
import { initViewer, openQuestion, redrawViewer, resizeViewer } from "./viewer.js";

function drawScope() {
  drawScopeNote();
  drawSchedule();
  drawFrontiers();
  drawRows();
}

function onBetaChange() {
  drawSchedule();
  drawFrontiers();
}

drawHeader();
fillScopes();
inputById("beta").value = String(state.beta);
selectById("scope").onchange = () => {
  state.scope = Number(selectById("scope").value);
  const { average, environments } = selectedScope();
  if (!average) {
    selectById("questions-env").value = String(environments[0]);
    drawQuestions();
  }
  drawScope();
};
inputById("beta").oninput = () => {
  state.beta = Number(inputById("beta").value);
  onBetaChange();
};
selectById("limit").onchange = () => {
  state.limit = Number(selectById("limit").value);
  drawFrontiers();
};
selectById("schedule-agent").onchange = () => {
  state.scheduledAgent = Number(selectById("schedule-agent").value);
  onBetaChange();
};
selectById("reference").onchange = () => {
  state.reference = Number(selectById("reference").value);
  drawRows();
};
initQuestions(openQuestion);
drawScope();
drawQuestions();
initViewer();
onColorSchemeChange(() => {
  drawScope();
  drawQuestions();
  redrawViewer();
});
let frame = 0;
addEventListener("resize", () => {
  cancelAnimationFrame(frame);
  frame = requestAnimationFrame(resizeViewer);
});
document.documentElement.dataset.ready = "true";
