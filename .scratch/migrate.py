import pandas as pd, sys
from pathlib import Path
sys.path.insert(0,"bench")
from sae.core import files
import reference
R={"detection_auc":"detection_measured_auc","detection_auc_all":"detection_per_latent","detection_measured":"coverage","detection_looks":"detection_pixels_measured_auc"}
for f in map(Path,sys.argv[1:]):
    m=files.read_parquet(f/"metrics.parquet")
    reference.write(f/"metrics.parquet", m.rename(columns=R))
    r=files.read_json(f/"made_by.json"); r.pop("seal",None); r.pop("fronts",None)
    r["columns"]={R.get(k,k):v for k,v in r["columns"].items()}
    r["intervals"]={"confidence":r["intervals"]["confidence"]}
    files.write_json(f/"made_by.json", r)
