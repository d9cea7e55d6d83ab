// The pages' behaviour. Everything here is an addition: without it, links and forms still do the work.
import "./copy.js";
import "./dialogs.js";
import "./saving.js";
import "./expanding.js";
import "./auditing.js";
import "./following.js";
import "./watching.js";
import "./moving.js";
import "./progress.js";
import "./folding.js";
import "./choosing.js";
import "./finding.js";
import "./scanning.js";
import "./telling.js";
import "./sending.js";
import "./landing.js";
