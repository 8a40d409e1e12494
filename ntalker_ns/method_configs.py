"""Our methods of `ns-train`. Every `ns-*` command imports this module, so it stays light."""

from nerfstudio.plugins.types import MethodSpecification

from ntalker_ns.edit_model import EditModelConfig
from ntalker_ns.edit_pipeline import EditPipelineConfig
from ntalker_ns.edit_trainer import EditTrainerConfig
from ntalker_ns.editing.filters import FilterEditorConfig
from ntalker_ns.editing.plan import EditConfig
from ntalker_ns.field.talker_field import TalkerFieldConfig
from ntalker_ns.field.torso_field import TorsoFieldConfig
from ntalker_ns.rendering.portrait import PortraitConfig
from ntalker_ns.rendering.splat_head import SplatConfig
from ntalker_ns.run_folder import written_by_earlier_version
from ntalker_ns.stock import print_as_sentence
from ntalker_ns.talker_datamanager import TalkerDataManagerConfig
from ntalker_ns.talker_dataparser import TalkerDataParserConfig
from ntalker_ns.talker_model import TalkerModelConfig
from ntalker_ns.talker_pipeline import TalkerPipelineConfig
from ntalker_ns.talker_trainer import TalkerTrainerConfig
from ntalker_ns.training.lip_patches import LipsPhaseConfig
from ntalker_ns.training.optimizers import FusedAdamConfig
from ntalker_ns.training.schedulers import CosineDecayConfig

print_as_sentence(written_by_earlier_version)


def _optimizers(
    head: dict[str, float], others: float = 1.0, betas: tuple[float, float] = (0.9, 0.999)
) -> dict[str, dict]:
    """Adam with a short warm-up and a cosine decay for each parameter group; `others` scales the rates of groups that
    are not the head's."""
    rates = {"poses": 2e-4, "torso": 1e-2, "background": 2e-3}
    rates = head | {name: others * rate for name, rate in rates.items()}
    # Gaussians that are hidden have tiny gradients, and what Adam would make of them is noise.
    least = {"gaussians": 1e-8, "motion": 1e-8}
    return {
        name: {
            "optimizer": FusedAdamConfig(lr=rate, betas=betas, eps=least.get(name, 1e-15)),
            "scheduler": CosineDecayConfig(warmup_steps=100, final_factor=0.02),
        }
        for name, rate in rates.items()
    }


def _edit_optimizers(edit: EditConfig, grids: float, networks: float, around: float, refinement: float) -> dict:
    """The same for an edit of any head: surroundings, refinement and its discriminator too."""
    rates = {"grids": grids, "networks": networks, "gaussians": 5e-3, "torso": around, "background": around}
    rates |= {"refinement": refinement, "discriminator": 2e-4}
    optimizers = {name: FusedAdamConfig(lr=rate) for name, rate in rates.items()}
    # A pixel's gradient is its error over the pixels of a patch. Behind the person it is a thousandth of that or less,
    # and what Adam would make of it, were it scaled up, is noise that appears when the head turns.
    optimizers["background"].eps = 4e-3 / edit.patch_size**2
    return {
        name: {"optimizer": optimizer, "scheduler": CosineDecayConfig(warmup_steps=20, final_factor=0.1)}
        for name, optimizer in optimizers.items()
    }


LARGE_EDIT = EditConfig()
SMALL_EDIT = EditConfig(most_frames=24, epochs=18, lip_epochs=6, patch_size=64, lip_patch_size=32)

ntalker_base = MethodSpecification(
    config=TalkerTrainerConfig(
        method_name="ntalker-base",
        max_num_iterations=10_000,
        steps_per_save=2_000,
        steps_per_eval_image=1_000,
        steps_per_eval_all_images=10_000,
        mixed_precision=True,
        pipeline=TalkerPipelineConfig(
            datamanager=TalkerDataManagerConfig(
                dataparser=TalkerDataParserConfig(),
                rays_per_step=16_384,
            ),
            model=TalkerModelConfig(coarse_fraction=0.1),
            target_samples=1 << 18,
            # Halves the time of a step on an H100.
            record_steps=True,
            # RAD-NeRF's last phase; the small preset gains nothing from it without LPIPS weights.
            lips=LipsPhaseConfig(fraction=0.1),
        ),
        optimizers=_optimizers({"grids": 5e-3, "networks": 2e-3, "codes": 1e-3}),
    ),
    description="A talking head as a radiance field, from a video clip; for a GPU.",
)

ntalker_base_small = MethodSpecification(
    config=TalkerTrainerConfig(
        method_name="ntalker-base-small",
        max_num_iterations=1_800,
        steps_per_save=1_000,
        steps_per_eval_image=500,
        steps_per_eval_all_images=100_000,
        pipeline=TalkerPipelineConfig(
            datamanager=TalkerDataManagerConfig(
                dataparser=TalkerDataParserConfig(image_size=256),
                rays_per_step=4_096,
                lip_fraction=0.2,
            ),
            model=TalkerModelConfig(
                field=TalkerFieldConfig(
                    num_levels=8,
                    max_resolution=256,
                    log2_hashmap_size=16,
                    hidden_layers=1,
                    geometry_dim=15,
                    direction_levels=0,
                ),
                portrait=PortraitConfig(torso=TorsoFieldConfig(max_resolution=192, log2_hashmap_size=16)),
                coarse_fraction=0.2,
                thickness_weight=0.03,
                occupancy_resolution=64,
                occupancy_cells=8_192,
                occupancy_weight=0.03,
                step_size=0.025,
                max_samples=24,
            ),
            # Steps have fixed costs; with more samples, there are too few steps for the lips.
            target_samples=72_000,
        ),
        optimizers=_optimizers({"grids": 1.4e-2, "networks": 5.6e-3, "codes": 1.4e-3}, others=1.4, betas=(0.9, 0.99)),
    ),
    description="A talking head from a clip, for a laptop: 256 px, minutes on a CPU.",
)

ntalker_splat = MethodSpecification(
    config=TalkerTrainerConfig(
        method_name="ntalker-splat",
        max_num_iterations=4_000,
        steps_per_save=2_000,
        steps_per_eval_image=1_000,
        steps_per_eval_all_images=10_000,
        pipeline=TalkerPipelineConfig(
            datamanager=TalkerDataManagerConfig(dataparser=TalkerDataParserConfig(), whole_frames=True),
            model=TalkerModelConfig(splats=SplatConfig()),
        ),
        optimizers=_optimizers({"gaussians": 1e-2, "motion": 1e-2}),
    ),
    description="A talking head of Gaussians from a clip: real time on a CPU.",
)

ntalker_splat_small = MethodSpecification(
    config=TalkerTrainerConfig(
        method_name="ntalker-splat-small",
        max_num_iterations=1_500,
        steps_per_save=1_000,
        steps_per_eval_image=500,
        steps_per_eval_all_images=100_000,
        pipeline=TalkerPipelineConfig(
            datamanager=TalkerDataManagerConfig(dataparser=TalkerDataParserConfig(image_size=256), whole_frames=True),
            model=TalkerModelConfig(
                splats=SplatConfig(num_gaussians=10_000),
                portrait=PortraitConfig(torso=TorsoFieldConfig(max_resolution=192, log2_hashmap_size=16)),
            ),
        ),
        optimizers=_optimizers({"gaussians": 1e-2, "motion": 1e-2}, others=1.4, betas=(0.9, 0.99)),
    ),
    description="A talking head of Gaussians at 256 px: a minute or two on a CPU.",
)

ntalker_edit = MethodSpecification(
    config=EditTrainerConfig(
        method_name="ntalker-edit",
        steps_per_save=5_000,
        mixed_precision=True,
        edit=LARGE_EDIT,
        optimizers=_edit_optimizers(LARGE_EDIT, grids=5e-3, networks=5e-4, around=5e-3, refinement=2e-4),
    ),
    description="Edit a talking head by an instruction.",
)

ntalker_edit_small = MethodSpecification(
    config=EditTrainerConfig(
        method_name="ntalker-edit-small",
        steps_per_save=200,
        edit=SMALL_EDIT,
        editor=FilterEditorConfig(),
        pipeline=EditPipelineConfig(
            model=EditModelConfig(
                discriminator_channels=(32, 64, 128),
                perceptual=None,
                # Not the paper's values, see the fields' descriptions.
                colour_weight=1.0,
                lip_edge_weight=0.01,
                lip_edge_scale=30.0,
            )
        ),
        optimizers=_edit_optimizers(SMALL_EDIT, grids=1e-2, networks=2e-3, around=5e-3, refinement=1e-3),
    ),
    description="Edit a talking head, by default with offline picture filters: minutes on a CPU.",
)
